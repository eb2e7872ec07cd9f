//! Bi-level routing attention (BRA; paper §3.2, Algorithm 1).

use biformer_ops::{
    RegionGrid, RoutedAttentionOptions, RoutingOptions, route, routed_attention,
    routed_attention_traced,
};
use burn::config::Config;
use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::{AttentionTrace, Routing};
use crate::layers::{DepthwiseConv, linear};

/// Side of the kernel of the local context enhancement (LCE).
pub const LCE_KERNEL: usize = 5;

/// How a map whose size does not divide is cut into regions. The released weights depend on it.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum RegionRule {
    /// T, S, B, STL: `n_win` regions a side; zeros are padded before the projection, so that
    /// padded tokens equal the bias and take part in means, attention and LCE.
    PadFirst,
    /// STL-nchw: regions of `floor(size / n_win)` tokens a side; zeros are padded after the
    /// projection; means leave padding out.
    Floor,
}

/// Configuration of [`BiLevelRoutingAttention`].
#[derive(Config, Debug)]
pub struct BraConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Regions a side, the paper's S.
    pub n_win: usize,
    /// Regions that each region attends to, the paper's k.
    pub topk: usize,
    /// How sizes that do not divide are cut.
    #[config(default = "RegionRule::PadFirst")]
    pub region_rule: RegionRule,
    /// Whether padded tokens are left out of routing and attention. Off in the official models.
    #[config(default = false)]
    pub mask_padding: bool,
}

/// Bi-level routing attention (Zhu et al., CVPR 2023).
#[derive(Module, Debug)]
pub struct BiLevelRoutingAttention {
    /// Q, K and V in one projection (Eq. 3).
    pub qkv: Linear,
    /// Local context enhancement of V (Eq. 7).
    pub lce: DepthwiseConv,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: BraConfig,
}

impl BraConfig {
    /// The regions of a map of `height × width` tokens.
    pub fn grid(&self, height: usize, width: usize) -> RegionGrid {
        match self.region_rule {
            RegionRule::PadFirst => RegionGrid::pad_first(height, width, self.n_win),
            RegionRule::Floor => RegionGrid::floor(height, width, self.n_win),
        }
    }

    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> BiLevelRoutingAttention {
        let dim = self.dim;
        assert!(
            dim.is_multiple_of(self.num_heads),
            "dim must be divisible by num_heads, got {dim} channels and {} heads",
            self.num_heads
        );
        BiLevelRoutingAttention {
            qkv: linear(dim, 3 * dim, true, device),
            lce: DepthwiseConv::new(dim, LCE_KERNEL, device),
            output: linear(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl BiLevelRoutingAttention {
    /// # Shapes
    /// - x: `[batch, height, width, dim]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let grid = self.config.grid(height, width);
        let ([query, key, value], local_context) = self.project(x, &grid);
        let region_graph = route(&query, &key, &grid, &self.routing_options()); // I^r (Eq. 5)
        let options = self.attention_options();
        let x = routed_attention(query, key, value, region_graph, &grid, &options);
        self.output.forward(grid.crop(x) + local_context) // Eq. 7
    }

    /// [`BiLevelRoutingAttention::forward`] with routing and weights.
    pub fn forward_traced(&self, x: Tensor<4>) -> AttentionTrace {
        let [_, height, width, _] = x.dims();
        let grid = self.config.grid(height, width);
        let ([query, key, value], local_context) = self.project(x, &grid);
        let region_graph = route(&query, &key, &grid, &self.routing_options());
        let options = self.attention_options();
        let attention =
            routed_attention_traced(query, key, value, region_graph.clone(), &grid, &options);
        AttentionTrace {
            output: self.output.forward(grid.crop(attention.output) + local_context),
            routing: Some(Routing { grid, region_graph }),
            weights: attention.weights,
        }
    }

    /// Q, K and V (Eq. 3), padded to the grid, and LCE(V), cropped to the map.
    fn project(&self, x: Tensor<4>, grid: &RegionGrid) -> ([Tensor<4>; 3], Tensor<4>) {
        let x = match self.config.region_rule {
            RegionRule::PadFirst => grid.pad(x),
            RegionRule::Floor => x,
        };
        let dim = self.config.dim;
        let qkv = self.qkv.forward(x); // [batch, height, width, 3 * dim]
        let [query, key, value] = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * dim, dim));
        let local_context = self.lce.forward(value.clone());
        ([query, key, value].map(|x| grid.pad(x)), grid.crop(local_context))
    }

    fn routing_options(&self) -> RoutingOptions {
        RoutingOptions {
            topk: self.config.topk,
            exclude_padding: self.config.region_rule == RegionRule::Floor,
            mask_padding: self.config.mask_padding,
        }
    }

    fn attention_options(&self) -> RoutedAttentionOptions {
        RoutedAttentionOptions {
            num_heads: self.config.num_heads,
            // Official: the scale of the whole dimension, not of one head.
            scale: (self.config.dim as f64).powf(-0.5),
            mask_padding: self.config.mask_padding,
        }
    }
}
