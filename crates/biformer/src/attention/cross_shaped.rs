//! Cross-shaped windows (CSWin; Dong et al., CVPR 2022, <https://arxiv.org/abs/2107.00652>).
//!
//! The map is cut into horizontal stripes of sw × W tokens and into vertical ones of H × sw. The first half of
//! the heads attends within vertical stripes, the other within horizontal ones (§3.2), and what they give
//! stands side by side; together a token sees a cross. The locally-enhanced position encoding (§3.3) is a
//! 3 × 3 depthwise convolution of V, which sees no further than the stripe:
//!
//! Attention(Q, K, V) = SoftMax(Q Kᵀ / √d) V + DWConv(V)
//!
//! sw = 1, 2, 7 and the whole map in the four stages. (The text gives the first half of the heads the horizontal
//! stripes; we follow the code, for its weights.)

use biformer_ops::{Precision, RegionGrid, split_qkv};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::within_regions::attend_within;
use crate::layers::{DepthwiseConv, Linear};

/// Configuration of [`CrossShapedAttention`].
#[derive(Config, Debug)]
pub struct CrossShapedConfig {
    /// Channels in and out, even.
    pub dim: usize,
    /// Heads; the half of them, or one, must divide the half of `dim`.
    pub num_heads: usize,
    /// Tokens across a stripe, the paper's sw; without it all of the map is one stripe (last stage).
    pub stripe_width: Option<usize>,
}

/// Attention of half of the heads within vertical stripes, of half within horizontal ones.
///
/// An odd number of heads is rounded down: stage 1 of the Swin layout has one head of 48 channels for each
/// direction in place of 3 of 32. Zeros fill up the last stripe, and are attended to by nobody.
#[derive(Module, Debug)]
pub struct CrossShapedAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// Position encoding of the vertical stripes, and of the horizontal ones.
    pub lepe: [DepthwiseConv; 2],
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: CrossShapedConfig,
}

impl CrossShapedConfig {
    /// # Panics
    /// If `dim` is odd, or the half of `num_heads` does not divide the half of `dim`.
    pub fn init(&self, device: &Device) -> CrossShapedAttention {
        let dim = self.dim;
        assert!(dim.is_multiple_of(2), "dim: got: {dim}, expected: an even number");
        head_dim(dim / 2, self.heads_of_half());
        CrossShapedAttention {
            qkv: Linear::new(dim, 3 * dim, true, device),
            lepe: [0, 1].map(|_| DepthwiseConv::new(dim / 2, 3, device)),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }

    fn heads_of_half(&self) -> usize {
        (self.num_heads / 2).max(1)
    }

    /// The vertical stripes, and the horizontal ones.
    fn grids(&self, height: usize, width: usize) -> [RegionGrid; 2] {
        let [high, wide] = [height, width].map(|side| self.stripe_width.unwrap_or(side));
        let (rows, cols) = (height.div_ceil(high), width.div_ceil(wide));
        let map = RegionGrid::pad_first(height, width, 1);
        [
            RegionGrid { cols, region_width: wide, ..map },
            RegionGrid { rows, region_height: high, ..map },
        ]
    }
}

impl BlockAttention for CrossShapedAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let config = CrossShapedConfig::new(place.dim, place.num_heads);
        let stripe_width = [1, 2, 7].get(place.stage).copied();
        config.with_stripe_width(stripe_width).init(device)
    }

    fn num_heads(&self) -> usize {
        2 * self.config.heads_of_half()
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, dim] = x.dims();
        let qkv = split_qkv(self.qkv.forward(x));
        let halves = self.config.grids(height, width).into_iter().zip(&self.lepe).enumerate();
        let attended = halves.map(|(half, (grid, lepe))| {
            let qkv = qkv.clone().map(|x| x.narrow(3, half * (dim / 2), dim / 2));
            let [_, _, value] = qkv.clone();
            let attended = attend_within(qkv, &grid, self.config.heads_of_half());
            attended + encode_positions(lepe, value, &grid)
        });
        self.output.forward(Tensor::cat(attended.collect(), 3))
    }

    fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, ..self }
    }

    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let (tokens, dim) = (height * width, self.config.dim);
        let mut parts = vec![("qkv", Part::Linear(&self.qkv, tokens))];
        for (grid, lepe) in self.config.grids(height, width).into_iter().zip(&self.lepe) {
            let padded = grid.regions() * grid.tokens();
            let (pairs, dim) = (padded * grid.tokens(), dim / 2);
            parts.push(("lepe", Part::DepthwiseConv(lepe, padded)));
            parts.push(("attention", Part::Attention { pairs, tokens: padded, dim }));
        }
        parts.push(("output", Part::Linear(&self.output, tokens)));
        parts
    }
}

/// DWConv(V), stripe by stripe.
///
/// # Shapes
/// - value, output: `[batch, height, width, channels]`
fn encode_positions(lepe: &DepthwiseConv, value: Tensor<4>, grid: &RegionGrid) -> Tensor<4> {
    let [batch, _, _, channels] = value.dims();
    let (regions, tokens) = (grid.regions(), grid.tokens());
    let stripes = grid.partition(grid.pad(value));
    let maps = [batch * regions, grid.region_height, grid.region_width, channels];
    let encoded = lepe.forward(stripes.reshape(maps)).reshape([batch, regions, tokens, channels]);
    grid.crop(grid.merge(encoded))
}
