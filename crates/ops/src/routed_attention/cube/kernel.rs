//! O = softmax(scale · Q Kᵍᵀ) Vᵍ by online softmax.
//!
//! One unit = one query token of one head, with the query and the sums over its keys in registers.
//! Neighbouring units have the tokens of one region and read the same keys at the same time, so that each
//! number comes from memory once for all of them.
//! Kᵍ, Vᵍ, logits and weights are never written to memory: each unit walks the region graph instead.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Stands for −∞, which not every shader language can write.
const LOWEST: f32 = -3.0e38;

/// # Shapes
/// - query, key, value: `[batch, rows * region_height, cols * region_width, channels]`, of any strides
/// - region_graph: `[batch, regions, topk]`
/// - output: like `query`
///
/// `height` and `width` are those of the map without padding.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn attend<I: Int>(
    query: &Tensor<f32>,
    key: &Tensor<f32>,
    value: &Tensor<f32>,
    region_graph: &Tensor<I>,
    output: &mut Tensor<f32>,
    scale: f32,
    cols: u32,
    region_height: u32,
    region_width: u32,
    height: u32,
    width: u32,
    #[comptime] head_dim: usize,
    #[comptime] mask_padding: bool,
    #[define(I)] _index: ElemType,
) {
    let cols = cols as usize;
    let region_height = region_height as usize;
    let region_width = region_width as usize;
    let tokens = region_height * region_width;
    let num_heads = query.shape(3) / head_dim;
    let regions = region_graph.shape(1);
    let topk = region_graph.shape(2);
    if ABSOLUTE_POS >= query.shape(0) * regions * num_heads * tokens {
        terminate!();
    }
    let token = ABSOLUTE_POS % tokens;
    let head = ABSOLUTE_POS / tokens % num_heads;
    let region = ABSOLUTE_POS / (tokens * num_heads) % regions;
    let image = ABSOLUTE_POS / (tokens * num_heads * regions);
    let channel = head * head_dim;
    let y = region / cols * region_height + token / region_width;
    let x = region % cols * region_width + token % region_width;

    let start = image * query.stride(0)
        + y * query.stride(1)
        + x * query.stride(2)
        + channel * query.stride(3);
    // Sequences, not arrays: each number is a variable of its own.
    let mut own = Sequence::<f32>::new();
    let mut sums = Sequence::<f32>::new(); // of weight · V
    #[unroll]
    for c in 0..head_dim {
        let number = query[start + c * query.stride(3)] * scale;
        own.push(number);
        #[allow(unused_mut, reason = "it is when the kernel runs")]
        let mut zero = 0.0f32;
        sums.push(zero);
    }
    let mut max = f32::new(LOWEST);
    let mut sum = 0.0f32; // of the weights

    let key_start = image * key.stride(0) + channel * key.stride(3);
    let value_start = image * value.stride(0) + channel * value.stride(3);
    let graph_start = image * region_graph.stride(0) + region * region_graph.stride(1);
    for number in 0..topk {
        let routed = region_graph[graph_start + number * region_graph.stride(2)];
        let routed = u32::cast_from(routed) as usize;
        let routed = select(routed < regions, routed, regions - 1);
        let top = routed / cols * region_height;
        let left = routed % cols * region_width;
        let mut bottom = top + region_height;
        let mut right = left + region_width;
        if comptime!(mask_padding) {
            let height = height as usize;
            let width = width as usize;
            bottom = select(bottom < height, bottom, height);
            right = select(right < width, right, width);
        }
        let mut y = top;
        while y < bottom {
            let mut x = left;
            while x < right {
                let place = key_start + y * key.stride(1) + x * key.stride(2);
                let mut logit = 0.0f32;
                #[unroll]
                for c in 0..head_dim {
                    logit += own[c] * key[place + c * key.stride(3)];
                }
                // Rarely after the first keys, so that most keys rescale nothing.
                if logit > max {
                    let shrink = (max - logit).exp();
                    sum *= shrink;
                    #[unroll]
                    for c in 0..head_dim {
                        sums[c] *= shrink;
                    }
                    max = logit;
                }
                let weight = (logit - max).exp();
                sum += weight;
                let place = value_start + y * value.stride(1) + x * value.stride(2);
                #[unroll]
                for c in 0..head_dim {
                    sums[c] += weight * value[place + c * value.stride(3)];
                }
                x += 1;
            }
            y += 1;
        }
    }

    let stride = output.stride(3);
    let start =
        image * output.stride(0) + y * output.stride(1) + x * output.stride(2) + channel * stride;
    #[unroll]
    for c in 0..head_dim {
        output[start + c * stride] = sums[c] / sum;
    }
}
