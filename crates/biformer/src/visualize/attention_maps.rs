//! Where a query looks: routed regions and attention weights, scattered back to the map.

use std::ops::Range;

use biformer_ops::RegionGrid;
use burn::tensor::Tensor;

use crate::attention::{AttentionTrace, Routing};

/// The attention of one block to one picture. Weights are computed when they are asked for: those of all
/// tokens of a large picture would not fit into memory.
#[derive(Clone, Debug)]
pub struct AttentionMaps {
    /// Cuts the map; attention to all tokens has one region.
    grid: RegionGrid,
    /// I^r of Eq. 5: the regions that each region attends to. Empty for attention to all tokens.
    region_graph: Vec<Vec<usize>>,
    /// Of this picture alone.
    trace: AttentionTrace,
}

/// The attention weights of the tokens of one region.
pub(super) struct RegionWeights {
    num_heads: usize,
    tokens: usize,
    /// `[num_heads, tokens, keys]`
    weights: Vec<f32>,
}

impl AttentionMaps {
    /// Those of picture number `image` of the batch.
    ///
    /// # Panics
    /// If the batch has no such picture.
    pub fn new(trace: &AttentionTrace, image: usize) -> Self {
        let [batch, ..] = trace.output.dims();
        assert!(image < batch, "picture {image} of a batch of {batch}");
        let map = |map: &Tensor<4>| map.clone().narrow(0, image, 1);
        let routing = trace.routing.as_ref().map(|Routing { grid, region_graph }| Routing {
            grid: *grid,
            region_graph: region_graph.clone().narrow(0, image, 1),
        });
        let region_graph = routing.as_ref().map_or(Vec::new(), |routing| {
            let [_, _, topk] = routing.region_graph.dims();
            let graph = routing.region_graph.clone().into_data_as::<i64>();
            let graph: Vec<i64> = graph.try_into_vec().expect("whole numbers");
            graph.chunks(topk).map(|row| row.iter().map(|&i| i as usize).collect()).collect()
        });
        let trace = AttentionTrace {
            output: map(&trace.output),
            routing,
            query: map(&trace.query),
            key: map(&trace.key),
            options: trace.options,
        };
        Self { grid: trace.grid(), region_graph, trace }
    }

    /// Height and width of the map in tokens.
    pub fn size(&self) -> [usize; 2] {
        [self.grid.height, self.grid.width]
    }

    /// How the map is cut into regions; `None` if all tokens attend to all.
    pub fn grid(&self) -> Option<&RegionGrid> {
        (!self.region_graph.is_empty()).then_some(&self.grid)
    }

    /// Heads of the attention.
    pub fn num_heads(&self) -> usize {
        self.trace.options.num_heads
    }

    /// The regions that the region attends to, of the highest affinity first; none if all
    /// tokens attend to all.
    pub fn routed_regions(&self, region: usize) -> &[usize] {
        self.region_graph.get(region).map_or(&[], Vec::as_slice)
    }

    /// The region of a token, by its row and column.
    pub fn region_of(&self, [y, x]: [usize; 2]) -> usize {
        y / self.grid.region_height * self.grid.cols + x / self.grid.region_width
    }

    /// How much the token attends to each token of the map, in one head or on average over all.
    /// They add up to 1, less what goes to padding.
    ///
    /// # Shapes
    /// - query: row and column of the token
    /// - output: `[height, width]`
    ///
    /// # Panics
    /// If there is no such token or head.
    pub fn weights(&self, query: [usize; 2], head: Option<usize>) -> Vec<f32> {
        let RegionGrid { height, width, region_height, region_width, cols, .. } = self.grid;
        let [y, x] = query;
        assert!(y < height && x < width, "token {query:?} of a map of {height} × {width}");
        let region = self.region_of(query);
        let token = y % region_height * region_width + x % region_width;
        let num_heads = self.num_heads();
        assert!(head.is_none_or(|head| head < num_heads), "head {head:?} of {num_heads}");
        let heads = head.map_or(0..num_heads, |head| head..head + 1);
        let share = 1.0 / heads.len() as f32;
        let mut map = vec![0.0; height * width];
        let weights = self.region_weights(region).sum(&[token], heads);
        for (key, weight) in weights.into_iter().enumerate() {
            let (region, token) = self.key(region, key);
            let y = region / cols * region_height + token / region_width;
            let x = region % cols * region_width + token % region_width;
            if y < height && x < width {
                map[y * width + x] = share * weight;
            }
        }
        map
    }

    /// The weights of a region; its keys are the tokens of the routed regions, one region after the
    /// other.
    pub(super) fn region_weights(&self, region: usize) -> RegionWeights {
        let weights = self.trace.weights(region..region + 1);
        let [_, num_heads, tokens, _] = weights.dims();
        let weights = weights.into_data_as::<f32>().try_into_vec().expect("float32 weights");
        RegionWeights { num_heads, tokens, weights }
    }

    /// Region of a key, and its place there. All tokens are one region, which attends to itself.
    fn key(&self, region: usize, key: usize) -> (usize, usize) {
        let tokens = self.grid.tokens();
        let routed = self.routed_regions(region);
        (routed.get(key / tokens).copied().unwrap_or(0), key % tokens)
    }
}

impl RegionWeights {
    /// How much some tokens attend to each key, added up over tokens and heads.
    ///
    /// # Shapes
    /// - output: `[topk * tokens]`
    pub(super) fn sum(&self, tokens: &[usize], heads: Range<usize>) -> Vec<f32> {
        let keys = self.weights.len() / (self.num_heads * self.tokens);
        let mut sum = vec![0.0; keys];
        for head in heads {
            for token in tokens {
                let weights = &self.weights[(head * self.tokens + token) * keys..][..keys];
                sum.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
            }
        }
        sum
    }
}
