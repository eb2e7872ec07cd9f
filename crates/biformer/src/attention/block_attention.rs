//! What a block of the Swin layout asks of its attention, whichever mechanism it is.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use crate::layers::{DepthwiseConv, LayerNorm, Linear};

/// Where a block stands in the pyramid: all that its attention may depend on.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub struct BlockPlace {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Its stage, from 0.
    pub stage: usize,
    /// Its number in the stage, from 0.
    pub block: usize,
}

impl BlockPlace {
    /// Whether it is the second, the fourth … of its stage: two kinds of layers take turns by it.
    pub fn is_second(&self) -> bool {
        !self.block.is_multiple_of(2)
    }

    /// Tokens a side of its map on pictures of 224²: 56, 28, 14, 7.
    pub fn map_size(&self) -> usize {
        56 >> self.stage
    }
}

/// An attention that a block of the Swin layout can hold. A new one is a file with a module that
/// implements this, and a line of [`StlMechanism`](super::StlMechanism).
pub trait BlockAttention: Module {
    /// With fresh weights, as a block at this place has it.
    ///
    /// # Panics
    /// If the heads do not divide the channels.
    fn new(place: &BlockPlace, device: &Device) -> Self;

    /// Heads.
    fn num_heads(&self) -> usize;

    /// # Shapes
    /// - x: `[batch, height, width, dim]`, of any height and width
    /// - output: like `x`
    fn forward(&self, x: Tensor<4>) -> Tensor<4>;

    /// See [`Linear::for_inference`].
    fn for_inference(self, precision: Precision) -> Self;

    /// What it is made of, each part with its name, for a map of `[height, width]` tokens. All of its
    /// weights are among them.
    fn parts(&self, size: [usize; 2]) -> Vec<(&'static str, Part<'_>)>;
}

/// A part of an attention and how much it has to do, from which
/// [`analysis`](crate::analysis) counts what it costs.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A linear layer on so many tokens.
    Linear(&'a Linear, usize),
    /// A convolution with its tokens in and out.
    Conv(&'a Conv2d, [usize; 2]),
    /// A depthwise convolution on so many tokens.
    DepthwiseConv(&'a DepthwiseConv, usize),
    /// A layer norm on so many tokens.
    LayerNorm(&'a LayerNorm, usize),
    /// A group norm on so many tokens.
    GroupNorm(&'a GroupNorm, usize),
    /// So many trained numbers that are added or weigh, which counts as no work.
    Parameters(usize),
    /// Q Kᵀ, and weights times V.
    Attention {
        /// Pairs of a query and a key that are compared, in all windows of the map.
        pairs: usize,
        /// Queries.
        tokens: usize,
        /// Channels of all heads.
        dim: usize,
    },
}

/// Channels of a head.
///
/// # Panics
/// If the heads do not divide the channels.
pub(super) fn head_dim(dim: usize, num_heads: usize) -> usize {
    assert!(
        dim.is_multiple_of(num_heads),
        "dim must be divisible by num_heads, got {dim} channels and {num_heads} heads"
    );
    dim / num_heads
}
