//! Sliding windows (stand-alone self-attention; Ramachandran et al., NeurIPS 2019,
//! <https://arxiv.org/abs/1906.05909>).
//!
//! Each token i attends to the N(i) of M × M tokens around it, with a relative position bias, as
//! Swin's comparison has it (its Table 6):
//!
//! yᵢ = Σ softmax(qᵢ · kⱼ / √d + B(i − j)) vⱼ over j in N(i)
//!
//! Tokens beyond the edge of the map are nobody's neighbours. All N(i) of a block of M × M queries lie in
//! the block and a halo of ⌊M / 2⌋ tokens (HaloNet; Vaswani et al., CVPR 2021): blocks attend to that much,
//! and a mask leaves each query its own neighbours.

use biformer_ops::{Precision, RegionGrid, split_qkv};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, ops::PadMode};

use super::biased_attention::{biased_attention, mask};
use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::relative_position::select_bias;
use crate::layers::Linear;

/// Configuration of [`SlidingWindowAttention`].
#[derive(Config, Debug)]
pub struct SlidingWindowConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Tokens along a side of a window, odd.
    #[config(default = 7)]
    pub window_size: usize,
}

/// Attention of each token to those around it, with a relative position bias.
#[derive(Module, Debug)]
pub struct SlidingWindowAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// B by offset of query from key: `[window_size², num_heads]`
    pub relative_position_bias_table: Param<Tensor<2>>,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: SlidingWindowConfig,
}

impl SlidingWindowConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`, or `window_size` is even.
    pub fn init(&self, device: &Device) -> SlidingWindowAttention {
        let Self { dim, num_heads, window_size } = *self;
        head_dim(dim, num_heads);
        assert!(!window_size.is_multiple_of(2), "window_size: got: {window_size}, expected: odd");
        let table = Initializer::Normal { mean: 0.0, std: 0.02 };
        SlidingWindowAttention {
            qkv: Linear::new(dim, 3 * dim, true, device),
            relative_position_bias_table: table
                .init([window_size * window_size, num_heads], device),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl BlockAttention for SlidingWindowAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        SlidingWindowConfig::new(place.dim, place.num_heads).init(device)
    }

    fn num_heads(&self) -> usize {
        self.config.num_heads
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let grid = RegionGrid::windows(height, width, self.config.window_size);
        let [query, key, value] = split_qkv(self.qkv.forward(x));
        let [key, value] = [key, value].map(|x| self.with_halo(x, &grid));
        let bias = self.bias(&grid);
        let qkv = [grid.partition(grid.pad(query)), key, value];
        let attended = grid.merge(biased_attention(qkv, Some(bias), self.config.num_heads));
        self.output.forward(grid.crop(attended))
    }

    fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, ..self }
    }

    /// The pairs are those of the definition, without what the halo adds to be masked.
    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let SlidingWindowConfig { dim, window_size, .. } = self.config;
        let (tokens, neighbours) = (height * width, window_size * window_size);
        let table = self.relative_position_bias_table.lazy_shape().num_elements();
        vec![
            ("qkv", Part::Linear(&self.qkv, tokens)),
            ("relative_position_bias_table", Part::Parameters(table)),
            ("attention", Part::Attention { pairs: tokens * neighbours, tokens, dim }),
            ("output", Part::Linear(&self.output, tokens)),
        ]
    }
}

impl SlidingWindowAttention {
    /// How far a token sees.
    fn radius(&self) -> usize {
        self.config.window_size / 2
    }

    /// Tokens along a side of a block with its halo.
    fn halo_size(&self) -> usize {
        self.config.window_size + 2 * self.radius()
    }

    /// The tokens of each block and of the halo around it, zeros beyond the map.
    ///
    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: `[batch, blocks, halo_size², channels]`
    fn with_halo(&self, x: Tensor<4>, grid: &RegionGrid) -> Tensor<4> {
        let (radius, halo) = (self.radius(), self.halo_size());
        let [padded_height, padded_width] = grid.padded_size();
        let below = radius + padded_height - grid.height;
        let right = radius + padded_width - grid.width;
        let padding = [(0, 0), (radius, below), (radius, right), (0, 0)];
        let device = x.device();
        let places = |blocks: usize| {
            let place = |i: usize| (i / halo * self.config.window_size + i % halo) as i64;
            let places: Vec<i64> = (0..blocks * halo).map(place).collect();
            Tensor::<1, Int>::from_data(TensorData::new(places, [blocks * halo]), &device)
        };
        let x = x.pad(padding, PadMode::Constant(0.0));
        let x = x.select(1, places(grid.rows)).select(2, places(grid.cols));
        let (height, width) = (grid.rows * halo, grid.cols * halo);
        RegionGrid::windows(height, width, halo).partition(x)
    }

    /// B for neighbours, and what masks all others.
    ///
    /// # Shapes
    /// - output: `[blocks, num_heads, window_size², halo_size²]`
    fn bias(&self, grid: &RegionGrid) -> Tensor<4> {
        let (size, radius, halo) = (self.config.window_size, self.radius(), self.halo_size());
        let (queries, keys) = (size * size, halo * halo);
        // Of the query from the key, from 0; `None` beyond the window.
        let offset = |query: usize, key: usize| {
            let offset = (query + 2 * radius).checked_sub(key)?;
            (offset < size).then_some(offset)
        };
        let row = |query: usize, key: usize| {
            Some(offset(query / size, key / halo)? * size + offset(query % size, key % halo)?)
        };
        let rows = (0..queries).flat_map(|query| (0..keys).map(move |key| (query, key)));
        let rows = rows.map(|(query, key)| row(query, key).unwrap_or(0)).collect();
        let table = self.relative_position_bias_table.val();
        let device = table.device();
        let bias = select_bias(table, rows, [queries, keys]);
        let may_attend = |block: usize, query: usize, key: usize| {
            let y = block / grid.cols * size + key / halo;
            let x = block % grid.cols * size + key % halo;
            let is_on_map = (radius..radius + grid.height).contains(&y)
                && (radius..radius + grid.width).contains(&x);
            is_on_map && row(query, key).is_some()
        };
        bias + mask([grid.regions(), queries, keys], may_attend, &device)
    }
}
