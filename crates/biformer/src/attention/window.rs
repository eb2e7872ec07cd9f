//! Attention within windows, as plain ViTs have it in dense tasks (ViTDet, Li et al., ECCV 2022).

use biformer_ops::{
    LinearFusion, Precision, RegionGrid, RoutedAttentionOptions, routed_attention, split_qkv,
};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::within_regions::own_regions;
use super::{AttentionTrace, Routing};
use crate::layers::{LayerNorm, Linear};

/// Configuration of [`WindowAttention`].
#[derive(Config, Debug)]
pub struct WindowAttentionConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Tokens along a side of a window.
    #[config(default = 14)]
    pub window_size: usize,
}

/// Multi-head attention of each token to those of its window; scale `head_dim^-0.5`.
///
/// It is routed attention whose region graph leads from each window to itself. Where the map is no multiple
/// of a window, the last windows hold fewer tokens: what fills them up is attended to by nobody. (ViTDet
/// fills up with zeros in front of the projection and attends to them.)
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: WindowAttentionConfig,
}

impl WindowAttentionConfig {
    /// The windows of a map of `height × width` tokens.
    pub fn grid(&self, height: usize, width: usize) -> RegionGrid {
        RegionGrid::windows(height, width, self.window_size)
    }

    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> WindowAttention {
        let dim = self.dim;
        assert!(
            dim.is_multiple_of(self.num_heads),
            "dim must be divisible by num_heads, got {dim} channels and {} heads",
            self.num_heads
        );
        WindowAttention {
            qkv: Linear::new(dim, 3 * dim, true, device),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl WindowAttention {
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
        let routing = self.routing(&x);
        let (x, norm) = self.qkv.normalize(x, norm);
        let qkv = self.qkv.forward_fused(x, LinearFusion { norm, ..Default::default() });
        let attended = self.attend(split_qkv(routing.grid.pad(qkv)), &routing);
        self.output.forward_fused(attended, LinearFusion { residual, ..Default::default() })
    }

    /// [`WindowAttention::forward`] with windows, queries and keys.
    pub fn forward_traced(&self, x: Tensor<4>) -> AttentionTrace {
        let routing = self.routing(&x);
        let [query, key, value] = split_qkv(routing.grid.pad(self.qkv.forward(x)));
        let attended = self.attend([query.clone(), key.clone(), value], &routing);
        AttentionTrace {
            output: self.output.forward(attended),
            routing: Some(routing),
            query,
            key,
            options: self.options(),
        }
    }

    /// See [`Linear::for_inference`].
    pub fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, ..self }
    }

    /// Each window leads to itself.
    fn routing(&self, x: &Tensor<4>) -> Routing {
        let [batch, height, width, _] = x.dims();
        let grid = self.config.grid(height, width);
        Routing { grid, region_graph: own_regions(&grid, batch, &x.device()) }
    }

    fn attend(&self, [query, key, value]: [Tensor<4>; 3], routing: &Routing) -> Tensor<4> {
        let Routing { grid, region_graph } = routing;
        let options = self.options();
        grid.crop(routed_attention(query, key, value, region_graph.clone(), grid, &options))
    }

    fn options(&self) -> RoutedAttentionOptions {
        let WindowAttentionConfig { dim, num_heads, .. } = self.config;
        let scale = ((dim / num_heads) as f64).powf(-0.5);
        RoutedAttentionOptions { num_heads, scale, mask_padding: true }
    }
}
