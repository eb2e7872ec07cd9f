//! Sequential axial attention (axial transformers; Ho et al., 2019,
//! <https://arxiv.org/abs/1912.12180>).
//!
//! A layer attends along one axis of the map, the next one along the other:
//!
//! row layer: yᵢⱼ = Σ softmax(qᵢⱼ · kᵢₙ / √d) vᵢₙ over all n;
//! column layer: yᵢⱼ = Σ softmax(qᵢⱼ · kₘⱼ / √d) vₘⱼ over all m
//!
//! so that after two blocks every token has seen all others, for 2HW(H + W)C multiply-accumulates.

use biformer_ops::{Precision, RegionGrid, split_qkv};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::within_regions::attend_within;
use crate::layers::Linear;

/// Along what a token attends.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Axis {
    /// To its row: the first block of two.
    Row,
    /// To its column.
    Column,
}

/// Configuration of [`AxialAttention`].
#[derive(Config, Debug)]
pub struct AxialAttentionConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Along what a token attends.
    pub axis: Axis,
}

/// Attention of each token to those of its row, or of its column.
#[derive(Module, Debug)]
pub struct AxialAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: AxialAttentionConfig,
}

impl AxialAttentionConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> AxialAttention {
        head_dim(self.dim, self.num_heads);
        AxialAttention {
            qkv: Linear::new(self.dim, 3 * self.dim, true, device),
            output: Linear::new(self.dim, self.dim, true, device),
            config: self.clone(),
        }
    }

    /// Each row, or each column, is a region.
    fn grid(&self, height: usize, width: usize) -> RegionGrid {
        let (rows, cols) = match self.axis {
            Axis::Row => (height, 1),
            Axis::Column => (1, width),
        };
        let (region_height, region_width) = (height / rows, width / cols);
        RegionGrid { height, width, rows, cols, region_height, region_width }
    }
}

impl BlockAttention for AxialAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let axis = if place.is_second() { Axis::Column } else { Axis::Row };
        AxialAttentionConfig::new(place.dim, place.num_heads, axis).init(device)
    }

    fn num_heads(&self) -> usize {
        self.config.num_heads
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let grid = self.config.grid(height, width);
        let qkv = split_qkv(self.qkv.forward(x));
        self.output.forward(attend_within(qkv, &grid, self.config.num_heads))
    }

    fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, ..self }
    }

    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let (tokens, dim) = (height * width, self.config.dim);
        let pairs = tokens * self.config.grid(height, width).tokens();
        vec![
            ("qkv", Part::Linear(&self.qkv, tokens)),
            ("attention", Part::Attention { pairs, tokens, dim }),
            ("output", Part::Linear(&self.output, tokens)),
        ]
    }
}
