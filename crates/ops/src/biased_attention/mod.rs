//! Attention with a bias for each query and key, window by window: what the attentions of Table 5 need and
//! routed attention has no place for (relative positions, masks).
//!
//! O = softmax(scale · Q Kᵀ + B) V, head by head, within each window.

pub(crate) mod autodiff;
pub(crate) mod cpu;
mod head;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32};
use crate::routed_attention::check_heads;

/// What the attention needs to know beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct BiasedAttentionOptions {
    /// Heads; must divide the channels.
    pub num_heads: usize,
    /// Factor of the logits before the bias.
    pub scale: f64,
}

/// Attention within windows under a bias.
///
/// # Shapes
/// - query: `[batch, windows, queries, channels]`
/// - key, value: `[batch, windows, keys, channels]`
/// - bias: `[windows, num_heads, queries, keys]`, or 1 in place of any of the first three
/// - output: like `query`
///
/// # Panics
/// If shapes do not fit, or `num_heads` does not divide the channels.
pub fn biased_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    options: &BiasedAttentionOptions,
) -> Tensor<4> {
    if !is_cpu_f32(&query) {
        return biased_attention_reference(query, key, value, bias, options);
    }
    check(&query, &key, &value, options);
    let [_, _, queries, _] = query.dims();
    let [_, _, keys, _] = key.dims();
    let bias = bias.map(|bias| {
        let [windows, ..] = bias.dims();
        bias.expand([windows, options.num_heads, queries, keys])
    });
    let options = cpu::Options { has_bias: bias.is_some(), ..cpu::Options::new(options) };
    // Burn's extensions take no options of tensors: what is given in its place is not looked at.
    let bias = bias.unwrap_or_else(|| query.clone());
    let [query, key, value, bias] = [query, key, value, bias].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::fused_biased_attention(query, key, value, bias, options))
}

/// [`biased_attention`] by its definition.
///
/// # Panics
/// As [`biased_attention`].
pub fn biased_attention_reference(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    options: &BiasedAttentionOptions,
) -> Tensor<4> {
    check(&query, &key, &value, options);
    reference::biased_attention(query, key, value, bias, options)
}

fn check(query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>, options: &BiasedAttentionOptions) {
    check_heads(query, options.num_heads);
    let [batch, windows, _, channels] = query.dims();
    let [.., keys, _] = key.dims();
    for (name, map) in [("key", key), ("value", value)] {
        assert_eq!(map.dims(), [batch, windows, keys, channels], "biased_attention: {name}");
    }
}
