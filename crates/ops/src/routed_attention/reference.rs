//! The definition, in plain tensor operations, with Kᵍ and Vᵍ gathered into memory.

use std::ops::Range;

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
    let (regions, tokens) = (grid.regions(), grid.tokens());
    let value = gather(value, region_graph.clone(), grid, options.num_heads); // Vᵍ (Eq. 6)
    let weights = attention_weights(query, key, region_graph, grid, options, 0..regions);
    let output = weights.clone().matmul(value); // [batch * regions, num_heads, tokens, head_dim]
    let output = output.swap_dims(1, 2).reshape([batch, regions, tokens, channels]);
    RoutedAttention { output: grid.merge(output), weights }
}

pub(super) fn attention_weights(
    query: Tensor<4>,
    key: Tensor<4>,
    region_graph: Tensor<3, Int>,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
    regions: Range<usize>,
) -> Tensor<4> {
    let device = query.device();
    let region_graph = region_graph.narrow(1, regions.start, regions.len());
    let query = grid.partition(query).narrow(1, regions.start, regions.len());
    let query = split_heads(query, options.num_heads);
    let key = gather(key, region_graph.clone(), grid, options.num_heads); // Kᵍ (Eq. 6)

    let mut logits = query.mul_scalar(options.scale).matmul(key.swap_dims(2, 3));
    if options.mask_padding && grid.is_padded() {
        let [rows, _, _, keys] = logits.dims();
        let padding = padding_of_keys(region_graph, grid, &device);
        let dtype = logits.dtype();
        logits = logits + padding.reshape([rows, 1, 1, keys]).cast(dtype);
    }
    softmax(logits, 3) // [batch * regions, num_heads, tokens, topk * tokens]
}

/// The tokens of the routed regions, one region after the other.
///
/// # Shapes
/// - x: `[batch, rows * region_height, cols * region_width, channels]`
/// - region_graph: `[batch, regions, topk]`, of all regions or of some
/// - output: `[batch * regions, num_heads, topk * tokens, head_dim]`
fn gather(
    x: Tensor<4>,
    region_graph: Tensor<3, Int>,
    grid: &RegionGrid,
    num_heads: usize,
) -> Tensor<4> {
    let [batch, _, _, channels] = x.dims();
    let [_, regions, topk] = region_graph.dims();
    let (all, tokens) = (grid.regions(), grid.tokens());
    // Row of each routed region when the regions of all pictures stand one below the other.
    let first_row = Tensor::<1, Int>::arange(0..batch as i64, &x.device()) * all as i64;
    let rows = (region_graph + first_row.reshape([batch, 1, 1])).flatten::<1>(0, 2);
    let x = grid.partition(x).reshape([batch * all, tokens, channels]);
    let x = x.select(0, rows); // [batch * regions * topk, tokens, channels]
    split_heads(x.reshape([batch, regions, topk * tokens, channels]), num_heads)
}

/// # Shapes
/// - x: `[batch, regions, length, channels]`
/// - output: `[batch * regions, num_heads, length, head_dim]`
fn split_heads(x: Tensor<4>, num_heads: usize) -> Tensor<4> {
    let [batch, regions, length, channels] = x.dims();
    x.reshape([batch * regions, length, num_heads, channels / num_heads]).swap_dims(1, 2)
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
