//! Attention of every token to every token of the map (Eq. 1–2), as stage 4 uses it.

use burn::tensor::{Tensor, activation::softmax};

use crate::profile::{self, Class};

/// Output of global attention with the weights that led to it.
#[derive(Clone, Debug)]
pub struct GlobalAttention {
    /// `[batch, height, width, channels]`
    pub output: Tensor<4>,
    /// Attention weights, `[batch, num_heads, height * width, height * width]`
    pub weights: Tensor<4>,
}

/// O = softmax(scale · Q Kᵀ) V, head by head, over all tokens of the map.
///
/// # Shapes
/// - query, key, value: `[batch, height, width, channels]`
/// - output: `[batch, height, width, channels]`
///
/// # Panics
/// If `num_heads` does not divide the channels.
pub fn global_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    num_heads: usize,
    scale: f64,
) -> Tensor<4> {
    let _span = profile::span(Class::GlobalAttention);
    global_attention_traced(query, key, value, num_heads, scale).output
}

/// [`global_attention`] that also returns the attention weights.
pub fn global_attention_traced(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    num_heads: usize,
    scale: f64,
) -> GlobalAttention {
    let _span = profile::span(Class::GlobalAttention);
    let [batch, height, width, channels] = query.dims();
    assert!(
        channels.is_multiple_of(num_heads),
        "channels must be divisible by num_heads, got {channels} channels and {num_heads} heads"
    );
    let heads = |x: Tensor<4>| {
        x.reshape([batch, height * width, num_heads, channels / num_heads]).swap_dims(1, 2)
        // [batch, num_heads, height * width, head_dim]
    };
    let (query, key, value) = (heads(query), heads(key), heads(value));
    let weights = softmax(query.mul_scalar(scale).matmul(key.swap_dims(2, 3)), 3);
    let output = weights.clone().matmul(value).swap_dims(1, 2);
    GlobalAttention { output: output.reshape([batch, height, width, channels]), weights }
}
