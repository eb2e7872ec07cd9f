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
use burn::tensor::{Device, Tensor};

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
        let [batch, _, _, channels] = x.dims();
        let RegionGrid { rows, cols, .. } = *grid;
        let (size, halo) = (self.config.window_size, self.halo_size());
        let x = grid.pad(x).reshape([batch, rows, size, cols * size * channels]);
        let x = self.with_neighbours(x).reshape([batch * rows * halo, cols, size, channels]);
        let x = self.with_neighbours(x).reshape([batch, rows, halo, cols, halo * channels]);
        x.swap_dims(2, 3).reshape([batch, rows * cols, halo * halo, channels])
    }

    /// Each block of a sequence between the end of the one before and the beginning of the next; zeros
    /// beyond the ends.
    ///
    /// # Shapes
    /// - x: `[batch, blocks, window_size, channels]`
    /// - output: `[batch, blocks, halo_size, channels]`
    fn with_neighbours(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, blocks, size, channels] = x.dims();
        let radius = self.radius();
        let beyond = Tensor::zeros([batch, 1, radius, channels], &x.device());
        let others = |first: usize, part: usize| {
            let others = x.clone().narrow(1, first, blocks - 1);
            others.narrow(2, part, radius)
        };
        let [before, after] = match blocks {
            1 => [beyond.clone(), beyond],
            _ => [
                Tensor::cat(vec![beyond.clone(), others(0, size - radius)], 1),
                Tensor::cat(vec![others(1, 0), beyond], 1),
            ],
        };
        Tensor::cat(vec![before, x, after], 2)
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
