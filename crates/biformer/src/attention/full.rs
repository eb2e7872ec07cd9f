//! Attention to all tokens, with or without a local enhancement (LePE): stage 4, and plain ViTs.

use biformer_ops::{LinearFusion, Precision, RoutedAttentionOptions, global_attention};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::block_attention::{BlockAttention, BlockPlace, Part};
use super::{AttentionTrace, bra::LCE_KERNEL};
use crate::layers::{DepthwiseConv, LayerNorm, Linear};

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
    /// Whether Q, K and V have a bias. Not in the official models, but in plain ViTs.
    #[config(default = false)]
    pub qkv_bias: bool,
}

/// Multi-head attention of all tokens to all tokens; scale `head_dim^-0.5`.
#[derive(Module, Debug)]
pub struct FullAttention {
    /// Q, K and V in one projection.
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
            qkv: Linear::new(dim, 3 * dim, self.qkv_bias, device),
            lce: (self.lepe != Lepe::None).then(|| DepthwiseConv::new(dim, LCE_KERNEL, device)),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl FullAttention {
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
        let x = match norm {
            Some(norm) => norm.forward_for(x, &self.qkv),
            None => x,
        };
        let [query, key, value] = self.project(x.clone());
        let attended =
            global_attention(query, key, value.clone(), self.config.num_heads, self.scale());
        self.finish(attended, x, value, residual)
    }

    /// [`FullAttention::forward`] with queries and keys.
    pub fn forward_traced(&self, x: Tensor<4>) -> AttentionTrace {
        let [query, key, value] = self.project(x.clone());
        let (num_heads, scale) = (self.config.num_heads, self.scale());
        let attended =
            global_attention(query.clone(), key.clone(), value.clone(), num_heads, scale);
        let options = RoutedAttentionOptions { num_heads, scale, mask_padding: false };
        let output = self.finish(attended, x, value, None);
        AttentionTrace { output, routing: None, query, key, options }
    }

    /// See [`Linear::for_inference`].
    pub fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, lce: self.lce.map(DepthwiseConv::for_inference), ..self }
    }

    fn project(&self, x: Tensor<4>) -> [Tensor<4>; 3] {
        let dim = self.config.dim;
        let qkv = self.qkv.forward(x); // [batch, height, width, 3 * dim]
        [0, 1, 2].map(|i| qkv.clone().narrow(3, i * dim, dim))
    }

    fn scale(&self) -> f64 {
        ((self.config.dim / self.config.num_heads) as f64).powf(-0.5)
    }

    /// Local enhancement and output projection.
    fn finish(
        &self,
        attended: Tensor<4>,
        x: Tensor<4>,
        value: Tensor<4>,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let enhanced = match (&self.lce, self.config.lepe) {
            (None, _) | (_, Lepe::None) => attended,
            (Some(lce), Lepe::Input) => lce.forward_add(x, attended),
            (Some(lce), Lepe::Value) => lce.forward_add(value, attended),
        };
        self.output.forward_fused(enhanced, LinearFusion { residual, ..Default::default() })
    }
}

/// In every block of the Swin layout, as far as one can pay for it: the upper bound of Table 5.
impl BlockAttention for FullAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let config = FullAttentionConfig::new(place.dim).with_num_heads(place.num_heads);
        config.with_lepe(Lepe::None).with_qkv_bias(true).init(device)
    }

    fn num_heads(&self) -> usize {
        self.config.num_heads
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        FullAttention::forward(self, x)
    }

    fn for_inference(self, precision: Precision) -> Self {
        FullAttention::for_inference(self, precision)
    }

    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let (tokens, dim) = (height * width, self.config.dim);
        let mut parts = vec![("qkv", Part::Linear(&self.qkv, tokens))];
        parts.extend(self.lce.as_ref().map(|lce| ("lce", Part::DepthwiseConv(lce, tokens))));
        parts.push(("attention", Part::Attention { pairs: tokens * tokens, tokens, dim }));
        parts.push(("output", Part::Linear(&self.output, tokens)));
        parts
    }
}

#[cfg(test)]
mod tests {
    use biformer_ops::global_attention_traced;
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn a_trace_has_the_weights_of_global_attention() {
        let device = Device::default();
        let module = FullAttentionConfig::new(16).with_num_heads(2).init(&device);
        let x = Tensor::random([2, 3, 5, 16], Distribution::Normal(0.0, 2.0), &device);
        let trace = module.forward_traced(x.clone());
        let [query, key, value] = module.project(x);
        let expected = global_attention_traced(query, key, value, 2, module.scale()).weights;
        let found = trace.weights(0..1);
        assert_eq!(found.dims(), [2, 2, 15, 15]);
        assert_eq!(found.into_data(), expected.into_data());
    }
}
