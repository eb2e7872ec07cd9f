//! Spatially separable self-attention (Twins-SVT; Chu et al., NeurIPS 2021,
//! <https://arxiv.org/abs/2104.13840>).
//!
//! Two layers take turns (Eq. 4):
//!
//! - locally-grouped self-attention (LSA): windows of 7 × 7 tokens attend within themselves;
//! - global sub-sampled attention (GSA): all tokens attend to one representative of each cell, which a
//!   strided convolution and a layer norm make of its tokens (the sub-sampling of PVT).
//!
//! Cells have 8, 4, 2 and 1 tokens a side in the four stages, so that there are 7 × 7 of them on pictures of
//! 224². Where the map is no multiple of a cell, the last tokens have no representative, as in the official
//! code. Convolutional position encoding, which Twins has beside, belongs to the model and not to the
//! mechanism.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor, ops::PadMode};

use super::biased_attention::biased_attention;
use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::window::{WindowAttention, WindowAttentionConfig};
use crate::layers::{LayerNorm, Linear, PYTORCH_EPSILON, convolve};

/// Tokens along a side of a window.
const WINDOW_SIZE: usize = 7;

/// One of the two layers.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one of them in a block
pub enum SpatiallySeparableAttention {
    /// LSA: the first block of two.
    LocallyGrouped(WindowAttention),
    /// GSA.
    GlobalSubSampled(GlobalSubSampledAttention),
}

/// Configuration of [`GlobalSubSampledAttention`].
#[derive(Config, Debug)]
pub struct GlobalSubSampledConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Tokens along a side of a cell; 1 for none.
    pub sr_ratio: usize,
}

/// Attention of all tokens to one representative of each cell.
#[derive(Module, Debug)]
pub struct GlobalSubSampledAttention {
    /// Q of each token.
    pub q: Linear,
    /// K and V of each representative, in one projection.
    pub kv: Linear,
    /// From the tokens of a cell to its representative, if cells have more than one.
    pub sub_sampling: Option<SubSampling>,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: GlobalSubSampledConfig,
}

/// A convolution whose kernels do not overlap, and a layer norm.
#[derive(Module, Debug)]
pub struct SubSampling {
    /// As large as a cell.
    pub sr: Conv2d,
    /// Over the channels of each representative.
    pub norm: LayerNorm,
}

impl GlobalSubSampledConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> GlobalSubSampledAttention {
        let Self { dim, num_heads, sr_ratio } = *self;
        head_dim(dim, num_heads);
        let sub_sampling = || {
            let sr = Conv2dConfig::new([dim, dim], [sr_ratio; 2]).with_stride([sr_ratio; 2]);
            let norm = LayerNorm::new(dim, device).with_epsilon(PYTORCH_EPSILON);
            SubSampling { sr: sr.init(device), norm }
        };
        GlobalSubSampledAttention {
            q: Linear::new(dim, dim, true, device),
            kv: Linear::new(dim, 2 * dim, true, device),
            sub_sampling: (sr_ratio > 1).then(sub_sampling),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl BlockAttention for SpatiallySeparableAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let BlockPlace { dim, num_heads, stage, .. } = *place;
        if place.is_second() {
            let sr_ratio = 8 >> stage;
            let config = GlobalSubSampledConfig::new(dim, num_heads, sr_ratio);
            return Self::GlobalSubSampled(config.init(device));
        }
        let config = WindowAttentionConfig::new(dim, num_heads).with_window_size(WINDOW_SIZE);
        Self::LocallyGrouped(config.init(device))
    }

    fn num_heads(&self) -> usize {
        match self {
            Self::LocallyGrouped(attention) => attention.config.num_heads,
            Self::GlobalSubSampled(attention) => attention.config.num_heads,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::LocallyGrouped(attention) => attention.forward(x),
            Self::GlobalSubSampled(attention) => attention.forward(x),
        }
    }

    fn for_inference(self, precision: Precision) -> Self {
        match self {
            Self::LocallyGrouped(attention) => {
                Self::LocallyGrouped(attention.for_inference(precision))
            }
            Self::GlobalSubSampled(attention) => {
                let GlobalSubSampledAttention { q, kv, output, .. } = attention;
                let [q, kv, output] = [q, kv, output].map(|linear| linear.for_inference(precision));
                Self::GlobalSubSampled(GlobalSubSampledAttention { q, kv, output, ..attention })
            }
        }
    }

    fn parts(&self, size: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let [height, width] = size;
        let tokens = height * width;
        match self {
            Self::LocallyGrouped(WindowAttention { qkv, output, config }) => {
                let grid = config.grid(height, width);
                let padded = grid.regions() * grid.tokens();
                let (pairs, dim) = (padded * grid.tokens(), config.dim);
                vec![
                    ("qkv", Part::Linear(qkv, tokens)),
                    ("attention", Part::Attention { pairs, tokens: padded, dim }),
                    ("output", Part::Linear(output, tokens)),
                ]
            }
            Self::GlobalSubSampled(attention) => {
                let GlobalSubSampledConfig { dim, sr_ratio, .. } = attention.config;
                let cells = size.map(|side| (side / sr_ratio).max(1)).iter().product();
                let mut parts = vec![("q", Part::Linear(&attention.q, tokens))];
                if let Some(SubSampling { sr, norm }) = &attention.sub_sampling {
                    parts.push(("sr", Part::Conv(sr, [tokens, cells])));
                    parts.push(("norm", Part::LayerNorm(norm, cells)));
                }
                parts.push(("kv", Part::Linear(&attention.kv, cells)));
                parts.push(("attention", Part::Attention { pairs: tokens * cells, tokens, dim }));
                parts.push(("output", Part::Linear(&attention.output, tokens)));
                parts
            }
        }
    }
}

impl GlobalSubSampledAttention {
    /// # Shapes
    /// - x: `[batch, height, width, dim]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, dim] = x.dims();
        let query = self.q.forward(x.clone()).reshape([batch, 1, height * width, dim]);
        let representatives = self.representatives(x);
        let [_, rows, cols, _] = representatives.dims();
        let kv = self.kv.forward(representatives).reshape([batch, 1, rows * cols, 2 * dim]);
        let [key, value] = [0, 1].map(|i| kv.clone().narrow(3, i * dim, dim));
        let attended = biased_attention([query, key, value], None, self.config.num_heads);
        self.output.forward(attended.reshape([batch, height, width, dim]))
    }

    /// One token of each cell; of a map that is smaller than a cell, filled up with zeros, one.
    ///
    /// # Shapes
    /// - x: `[batch, height, width, dim]`
    /// - output: `[batch, height / sr_ratio, width / sr_ratio, dim]`, rounded down
    fn representatives(&self, x: Tensor<4>) -> Tensor<4> {
        let Some(SubSampling { sr, norm }) = &self.sub_sampling else { return x };
        let [_, height, width, _] = x.dims();
        let [below, right] = [height, width].map(|side| self.config.sr_ratio.saturating_sub(side));
        let x = match [below, right] {
            [0, 0] => x,
            _ => x.pad([(0, 0), (0, below), (0, right), (0, 0)], PadMode::Constant(0.0)),
        };
        norm.forward(convolve(sr, x))
    }
}
