//! The definition, in plain tensor operations, with Kᵍ and Vᵍ gathered into memory.

use burn::tensor::{Device, Int, Tensor, activation::softmax};

use super::{RoutedAttention, RoutedAttentionOptions};
use crate::RegionGrid;

pub(super) fn routed_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    region_graph: Tensor<3, Int>,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> RoutedAttention {
    let [batch, _, _, channels] = query.dims();
    let [_, regions, topk] = region_graph.dims();
    let (tokens, num_heads) = (grid.tokens(), options.num_heads);
    let head_dim = channels / num_heads;
    let device = query.device();

    // Row of each routed region when the regions of all pictures stand one below the other.
    let first_row = Tensor::<1, Int>::arange(0..batch as i64, &device) * regions as i64;
    let rows = (region_graph.clone() + first_row.reshape([batch, 1, 1])).flatten::<1>(0, 2);

    let heads = |x: Tensor<4>, length: usize| {
        x.reshape([batch * regions, length, num_heads, head_dim]).swap_dims(1, 2)
        // [batch * regions, num_heads, length, head_dim]
    };
    let gather = |x: Tensor<4>| {
        let x = grid.partition(x).reshape([batch * regions, tokens, channels]);
        let x = x.select(0, rows.clone()); // [batch * regions * topk, tokens, channels]
        heads(x.reshape([batch * regions, topk, tokens, channels]), topk * tokens)
    };
    let query = heads(grid.partition(query), tokens);
    let (key, value) = (gather(key), gather(value)); // Kᵍ, Vᵍ (Eq. 6)

    let mut logits = query.mul_scalar(options.scale).matmul(key.swap_dims(2, 3));
    if options.mask_padding && grid.is_padded() {
        let padding = padding_of_keys(region_graph, grid, &device);
        logits = logits + padding.reshape([batch * regions, 1, 1, topk * tokens]);
    }
    let weights = softmax(logits, 3); // [batch * regions, num_heads, tokens, topk * tokens]
    let output = weights.clone().matmul(value); // [batch * regions, num_heads, tokens, head_dim]
    let output = output.swap_dims(1, 2).reshape([batch, regions, tokens, channels]);
    RoutedAttention { output: grid.merge(output), weights }
}

/// 0 for each routed token of the picture, −∞ for padding.
///
/// # Shapes
/// - output: `[batch * regions * topk, tokens]`
fn padding_of_keys(region_graph: Tensor<3, Int>, grid: &RegionGrid, device: &Device) -> Tensor<2> {
    let padding = grid.padding_mask(device); // [regions, tokens]
    let bias = Tensor::<2>::zeros(padding.dims(), device).mask_fill(padding, f32::NEG_INFINITY);
    bias.select(0, region_graph.flatten::<1>(0, 2))
}
