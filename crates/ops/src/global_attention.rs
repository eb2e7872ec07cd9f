//! Attention of every token to every token of the map (Eq. 1–2), as stage 4 uses it.

use burn::tensor::{Tensor, activation::softmax};

use crate::backend::is_cpu_f32;
use crate::profile::{self, Class};
use crate::routed_attention::{Routing, check_heads, fused};
#[cfg(feature = "gpu")]
use crate::routed_attention::{is_fused_on_gpu, on_gpu};
use crate::{RegionGrid, RoutedAttentionOptions};

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
    check_heads(&query, num_heads);
    // The whole map is one region that attends to itself.
    let [batch, height, width, _] = query.dims();
    let grid = RegionGrid::pad_first(height, width, 1);
    let options = RoutedAttentionOptions { num_heads, scale, mask_padding: false };
    #[cfg(feature = "gpu")]
    if is_fused_on_gpu([&query, &key, &value], num_heads) {
        let region_graph = Tensor::zeros([batch, 1, 1], &query.device().inner());
        return on_gpu([query, key, value], region_graph, grid, options);
    }
    if !is_cpu_f32(&query) {
        return global_attention_traced(query, key, value, num_heads, scale).output;
    }
    fused(query, key, value, Routing { region_graph: vec![0; batch], topk: 1, grid, options })
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
    check_heads(&query, num_heads);
    let [batch, height, width, channels] = query.dims();
    let heads = |x: Tensor<4>| {
        x.reshape([batch, height * width, num_heads, channels / num_heads]).swap_dims(1, 2)
        // [batch, num_heads, height * width, head_dim]
    };
    let (query, key, value) = (heads(query), heads(key), heads(value));
    let weights = softmax(query.mul_scalar(scale).matmul(key.swap_dims(2, 3)), 3);
    let output = weights.clone().matmul(value).swap_dims(1, 2);
    GlobalAttention { output: output.reshape([batch, height, width, channels]), weights }
}
