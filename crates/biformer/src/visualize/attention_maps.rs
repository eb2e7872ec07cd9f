//! Where a query looks: routed regions and attention weights, scattered back to the map.

use biformer_ops::RegionGrid;

use crate::attention::{AttentionTrace, Routing};

/// The attention of one block to one picture.
#[derive(Clone, Debug)]
pub struct AttentionMaps {
    /// Cuts the map; attention to all tokens has one region.
    grid: RegionGrid,
    /// I^r of Eq. 5: the regions that each region attends to. Empty for attention to all tokens.
    region_graph: Vec<Vec<usize>>,
    num_heads: usize,
    /// `[regions, num_heads, tokens, topk * tokens]`
    weights: Vec<f32>,
}

impl AttentionMaps {
    /// Those of picture number `image` of the batch.
    ///
    /// # Panics
    /// If the batch has no such picture.
    pub fn new(trace: &AttentionTrace, image: usize) -> Self {
        let [batch, height, width, _] = trace.output.dims();
        assert!(image < batch, "picture {image} of a batch of {batch}");
        let (grid, region_graph) = match &trace.routing {
            Some(Routing { grid, region_graph }) => {
                let graph = region_graph.clone().narrow(0, image, 1);
                let [_, _, topk] = graph.dims();
                let graph: Vec<i64> =
                    graph.into_data_as::<i64>().try_into_vec().expect("whole numbers");
                let rows = graph.chunks(topk);
                (*grid, rows.map(|row| row.iter().map(|&i| i as usize).collect()).collect())
            }
            None => (RegionGrid::pad_first(height, width, 1), Vec::new()),
        };
        let [_, num_heads, _, _] = trace.weights.dims();
        let regions = grid.regions();
        let weights = trace.weights.clone().narrow(0, image * regions, regions);
        let weights = weights.into_data_as::<f32>().try_into_vec().expect("float32 weights");
        Self { grid, region_graph, num_heads, weights }
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
        self.num_heads
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
        let mut map = vec![0.0; height * width];
        for (key, weight) in self.key_weights(region, token, head).into_iter().enumerate() {
            let (region, token) = self.key(region, key);
            let y = region / cols * region_height + token / region_width;
            let x = region % cols * region_width + token % region_width;
            if y < height && x < width {
                map[y * width + x] = weight;
            }
        }
        map
    }

    /// How much a token of a region attends to its keys, which are the tokens of the routed regions
    /// one after the other.
    ///
    /// # Shapes
    /// - output: `[topk * tokens]`
    pub(super) fn key_weights(&self, region: usize, token: usize, head: Option<usize>) -> Vec<f32> {
        assert!(
            head.is_none_or(|head| head < self.num_heads),
            "head {head:?} of {}",
            self.num_heads
        );
        let tokens = self.grid.tokens();
        let keys = self.routed_regions(region).len().max(1) * tokens;
        let heads = head.map_or(0..self.num_heads, |head| head..head + 1);
        let share = 1.0 / heads.len() as f32;
        let mut mean = vec![0.0; keys];
        for head in heads {
            let row = (region * self.num_heads + head) * tokens + token;
            let weights = &self.weights[row * keys..][..keys];
            mean.iter_mut().zip(weights).for_each(|(mean, weight)| *mean += share * weight);
        }
        mean
    }

    /// Region of a key, and its place there. All tokens are one region, which attends to itself.
    fn key(&self, region: usize, key: usize) -> (usize, usize) {
        let tokens = self.grid.tokens();
        let routed = self.routed_regions(region);
        (routed.get(key / tokens).copied().unwrap_or(0), key % tokens)
    }
}
