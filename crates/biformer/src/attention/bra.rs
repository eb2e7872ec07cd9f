//! Bi-level routing attention (BRA; paper §3.2, Algorithm 1).

use biformer_ops::{
    LinearFusion, Precision, RegionGrid, RoutedAttentionOptions, RoutingOptions, route,
    routed_attention, routed_attention_lce, split_qkv,
};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::{AttentionTrace, Routing};
use crate::layers::{DepthwiseConv, LayerNorm, Linear};

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
    /// Factor of the logits; without it `dim^-0.5`, as in the official models.
    pub qk_scale: Option<f64>,
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
            qkv: Linear::new(dim, 3 * dim, true, device),
            lce: DepthwiseConv::new(dim, LCE_KERNEL, device),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl BiLevelRoutingAttention {
    /// # Shapes
    /// - x: `[batch, height, width, dim]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_fused(x, None, None)
    }

    /// residual + attention(norm(x)); what is `None` is left out.
    pub fn forward_fused(
        &self,
        x: Tensor<4>,
        norm: Option<&LayerNorm>,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let grid = self.config.grid(height, width);
        let qkv = self.project(x, norm, &grid);
        let [query, key, _] = split_qkv(qkv.clone());
        let region_graph = route(&query, &key, &grid, &self.routing_options()); // I^r (Eq. 5)
        let x = self.attend(qkv, region_graph, &grid); // Eq. 7
        self.output.forward_fused(x, LinearFusion { residual, ..Default::default() })
    }

    /// [`BiLevelRoutingAttention::forward`] with routing, queries and keys.
    pub fn forward_traced(&self, x: Tensor<4>) -> AttentionTrace {
        let [_, height, width, _] = x.dims();
        let grid = self.config.grid(height, width);
        let qkv = self.project(x, None, &grid);
        let [query, key, _] = split_qkv(qkv.clone());
        let region_graph = route(&query, &key, &grid, &self.routing_options());
        let attended = self.attend(qkv, region_graph.clone(), &grid);
        AttentionTrace {
            output: self.output.forward(attended),
            routing: Some(Routing { grid, region_graph }),
            query,
            key,
            options: self.attention_options(),
        }
    }

    /// See [`Linear::for_inference`].
    pub fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, lce: self.lce.for_inference(), ..self }
    }

    /// Q, K and V side by side (Eq. 3), padded to the grid.
    fn project(&self, x: Tensor<4>, norm: Option<&LayerNorm>, grid: &RegionGrid) -> Tensor<4> {
        let (x, norm) = match norm {
            // Official: padding comes after the norm.
            Some(norm) if grid.is_padded() => (norm.forward_for(x, &self.qkv), None),
            norm => self.qkv.normalize(x, norm),
        };
        let x = match self.config.region_rule {
            RegionRule::PadFirst => grid.pad(x),
            RegionRule::Floor => x,
        };
        grid.pad(self.qkv.forward_fused(x, LinearFusion { norm, ..Default::default() }))
    }

    /// Attention to the routed regions, and LCE(V).
    fn attend(&self, qkv: Tensor<4>, region_graph: Tensor<3, Int>, grid: &RegionGrid) -> Tensor<4> {
        let options = self.attention_options();
        if !self.has_fused_lce(grid) {
            let [query, key, value] = split_qkv(qkv);
            let x = routed_attention(query, key, value.clone(), region_graph, grid, &options);
            return self.enhance(value, x, grid);
        }
        let (weight, bias) = (self.lce.weight.val(), self.lce.bias.val());
        grid.crop(routed_attention_lce(qkv, region_graph, weight, bias, grid, &options))
    }

    /// Whether one operator computes attention and LCE: where both see the same tokens.
    pub(crate) fn has_fused_lce(&self, grid: &RegionGrid) -> bool {
        self.config.region_rule == RegionRule::PadFirst || !grid.is_padded()
    }

    /// LCE(V) added, padding cut off.
    fn enhance(&self, value: Tensor<4>, attended: Tensor<4>, grid: &RegionGrid) -> Tensor<4> {
        // LCE sees the padding only under the rule that projects it.
        match self.config.region_rule {
            RegionRule::PadFirst => grid.crop(self.lce.forward_add(value, attended)),
            RegionRule::Floor => self.lce.forward_add(grid.crop(value), grid.crop(attended)),
        }
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
            scale: self.config.qk_scale.unwrap_or((self.config.dim as f64).powf(-0.5)),
            mask_padding: self.config.mask_padding,
        }
    }
}
