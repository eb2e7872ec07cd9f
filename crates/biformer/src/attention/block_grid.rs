//! Block and grid attention (MaxViT; Tu et al., ECCV 2022, <https://arxiv.org/abs/2204.01697>).
//!
//! Block attention cuts the map into windows of P × P neighbours. Grid attention cuts it into P × P cells
//! and lets the tokens attend to one another that have the same place in theirs, so that each of its
//! windows is spread over all of the map (§3.2). Both have a relative position bias B (Eq. 1):
//!
//! RelAttention(Q, K, V) = softmax(Q Kᵀ / √d + B) V
//!
//! P = 7. In MaxViT both, each with a perceptron, make one block; in the Swin layout blocks take turns.

use biformer_ops::{Precision, RegionGrid, split_qkv};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::biased_attention::{biased_attention, padding_bias};
use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::relative_position::{new_table, window_bias};
use crate::layers::Linear;

/// Which tokens make a window.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Partition {
    /// Neighbours: the first block of two.
    Block,
    /// Those at the same place of each cell.
    Grid,
}

/// Configuration of [`BlockGridAttention`].
#[derive(Config, Debug)]
pub struct BlockGridConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Which tokens make a window.
    pub partition: Partition,
    /// Tokens along a side of a window, the paper's P and G.
    #[config(default = 7)]
    pub window_size: usize,
}

/// Attention within blocks, or within grids, with a relative position bias.
///
/// Where the map is no multiple of P, zeros fill up the last windows or cells, and are attended to by nobody.
#[derive(Module, Debug)]
pub struct BlockGridAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// B by offset in the window: `[(2 * window_size - 1)², num_heads]`
    pub relative_position_bias_table: Param<Tensor<2>>,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: BlockGridConfig,
}

impl BlockGridConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> BlockGridAttention {
        let Self { dim, num_heads, window_size, .. } = *self;
        head_dim(dim, num_heads);
        BlockGridAttention {
            qkv: Linear::new(dim, 3 * dim, true, device),
            relative_position_bias_table: new_table(window_size, num_heads, device),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }

    /// The windows, or the cells.
    fn regions(&self, height: usize, width: usize) -> RegionGrid {
        match self.partition {
            Partition::Block => RegionGrid::windows(height, width, self.window_size),
            Partition::Grid => RegionGrid::pad_first(height, width, self.window_size),
        }
    }

    /// Windows from regions, and back: those of the grid go across the cells.
    fn transpose(&self, x: Tensor<4>) -> Tensor<4> {
        match self.partition {
            Partition::Block => x,
            Partition::Grid => x.swap_dims(1, 2),
        }
    }
}

impl BlockAttention for BlockGridAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let partition = if place.is_second() { Partition::Grid } else { Partition::Block };
        BlockGridConfig::new(place.dim, place.num_heads, partition).init(device)
    }

    fn num_heads(&self) -> usize {
        self.config.num_heads
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let regions = self.config.regions(height, width);
        let windows = |x| self.config.transpose(regions.partition(regions.pad(x)));
        let qkv = split_qkv(self.qkv.forward(x)).map(windows); // each [batch, windows, tokens, dim]
        let table = self.relative_position_bias_table.val();
        let mut bias = window_bias(table, self.config.window_size);
        if let Some(padding) = padding_bias(&regions, &bias.device()) {
            bias = bias + self.padding_of_windows(padding);
        }
        let attended = biased_attention(qkv, Some(bias), self.config.num_heads);
        let attended = regions.merge(self.config.transpose(attended));
        self.output.forward(regions.crop(attended))
    }

    fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, ..self }
    }

    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let BlockGridConfig { dim, window_size, .. } = self.config;
        let [padded_height, padded_width] = self.config.regions(height, width).padded_size();
        let (tokens, padded) = (height * width, padded_height * padded_width);
        let pairs = padded * window_size * window_size;
        let table = self.relative_position_bias_table.lazy_shape().num_elements();
        vec![
            ("qkv", Part::Linear(&self.qkv, tokens)),
            ("relative_position_bias_table", Part::Parameters(table)),
            ("attention", Part::Attention { pairs, tokens: padded, dim }),
            ("output", Part::Linear(&self.output, tokens)),
        ]
    }
}

impl BlockGridAttention {
    /// # Shapes
    /// - padding: `[regions, 1, 1, tokens]`
    /// - output: `[windows, 1, 1, tokens]`, of windows
    fn padding_of_windows(&self, padding: Tensor<4>) -> Tensor<4> {
        match self.config.partition {
            Partition::Block => padding,
            Partition::Grid => padding.swap_dims(0, 3),
        }
    }
}
