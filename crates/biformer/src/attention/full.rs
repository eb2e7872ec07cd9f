//! Attention to all tokens, with or without a local enhancement (LePE): stage 4.

use biformer_ops::{GlobalAttention, global_attention_traced};
use burn::config::Config;
use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::{AttentionTrace, bra::LCE_KERNEL};
use crate::layers::{DepthwiseConv, linear};

/// What the depthwise convolution of the attention looks at.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Lepe {
    /// No local enhancement.
    None,
    /// The input of the attention (official `AttentionLePE`: T, S, B, STL).
    Input,
    /// V (official `nchwAttentionLePE`: STL-nchw).
    Value,
}

/// Configuration of [`FullAttention`].
#[derive(Config, Debug)]
pub struct FullAttentionConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`. The official models always have 8.
    #[config(default = 8)]
    pub num_heads: usize,
    /// What the local enhancement looks at.
    #[config(default = "Lepe::Input")]
    pub lepe: Lepe,
}

/// Multi-head attention of all tokens to all tokens; scale `head_dim^-0.5`, no qkv bias.
#[derive(Module, Debug)]
pub struct FullAttention {
    /// Q, K and V in one projection, without bias.
    pub qkv: Linear,
    /// Local enhancement, if there is one.
    pub lce: Option<DepthwiseConv>,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: FullAttentionConfig,
}

impl FullAttentionConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> FullAttention {
        let dim = self.dim;
        assert!(
            dim.is_multiple_of(self.num_heads),
            "dim must be divisible by num_heads, got {dim} channels and {} heads",
            self.num_heads
        );
        FullAttention {
            qkv: linear(dim, 3 * dim, false, device),
            lce: (self.lepe != Lepe::None).then(|| DepthwiseConv::new(dim, LCE_KERNEL, device)),
            output: linear(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl FullAttention {
    /// # Shapes
    /// - x: `[batch, height, width, dim]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_traced(x).output
    }

    /// [`FullAttention::forward`] with the attention weights.
    pub fn forward_traced(&self, x: Tensor<4>) -> AttentionTrace {
        let FullAttentionConfig { dim, num_heads, lepe } = self.config;
        let qkv = self.qkv.forward(x.clone()); // [batch, height, width, 3 * dim]
        let [query, key, value] = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * dim, dim));
        let enhanced = match lepe {
            Lepe::Value => value.clone(),
            Lepe::Input | Lepe::None => x,
        };
        let scale = ((dim / num_heads) as f64).powf(-0.5);
        let GlobalAttention { output, weights } =
            global_attention_traced(query, key, value, num_heads, scale);
        let output = match &self.lce {
            Some(lce) => output + lce.forward(enhanced),
            None => output,
        };
        AttentionTrace { output: self.output.forward(output), routing: None, weights }
    }
}
