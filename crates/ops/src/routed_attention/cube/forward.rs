//! O = softmax(scale · Q Kᵍᵀ) Vᵍ by online softmax.
//!
//! One unit = one query token of one head, with the query and the sums over its keys in registers.
//! Neighbouring units have the tokens of one region and read the same keys at the same time, so that each
//! number comes from memory once for all of them.
//! Kᵍ, Vᵍ, logits and weights are never written to memory: each unit walks the region graph instead.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::heads::{add, dot, read, routed, scale, write};
use crate::gpu::{Grid, LOWEST, at, start, zeros};

/// # Shapes
/// - query, key, value: `[batch, rows * region_height, cols * region_width, channels]`, of any strides
/// - region_graph: `[batch, regions, topk]`
/// - output: like `query`
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn attend<E: Float, I: Int, N: Size>(
    query: &Tensor<Vector<E, N>>,
    key: &Tensor<Vector<E, N>>,
    value: &Tensor<Vector<E, N>>,
    region_graph: &Tensor<I>,
    output: &mut Tensor<Vector<E, N>>,
    factor: f32,
    grid: &Grid,
    #[comptime] head_dim: usize,
    #[comptime] mask_padding: bool,
    #[define(E, I)] _types: [ElemType; 2],
) {
    let vector_size = query.vector_size();
    let vectors = comptime!(head_dim / vector_size);
    let num_heads = query.shape(3) / head_dim;
    let regions = region_graph.shape(1);
    if ABSOLUTE_POS >= query.shape(0) * regions * num_heads * grid.tokens() {
        terminate!();
    }
    let place = grid.place(ABSOLUTE_POS, num_heads, regions);
    let channel = place.head * head_dim;

    let query_place = at(query, start(query, place.image, channel), place.y, place.x);
    let own = read(query, query_place, factor, vectors);
    let mut sums = zeros::<N>(vectors); // of weight · V
    let mut max = f32::new(LOWEST);
    let mut sum = 0.0f32; // of the weights

    let key_start = start(key, place.image, channel);
    let value_start = start(value, place.image, channel);
    for number in 0..region_graph.shape(2) {
        let keys =
            grid.region(routed(region_graph, place.image, place.region, number), mask_padding);
        let mut y = keys.top;
        while y < keys.bottom {
            let mut x = keys.left;
            while x < keys.right {
                let logit = dot(&own, key, at(key, key_start, y, x), vectors);
                // Rarely after the first keys, so that most keys rescale nothing.
                if logit > max {
                    let shrink = (max - logit).exp();
                    sum *= shrink;
                    scale(&mut sums, shrink, vectors);
                    max = logit;
                }
                let weight = (logit - max).exp();
                sum += weight;
                add(&mut sums, weight, value, at(value, value_start, y, x), vectors);
                x += 1;
            }
            y += 1;
        }
    }

    let output_place = at(&*output, start(&*output, place.image, channel), place.y, place.x);
    write(output, output_place, &sums, 1.0 / sum, vectors);
}
