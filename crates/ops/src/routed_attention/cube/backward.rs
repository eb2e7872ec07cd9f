//! Gradients of Q, K and V, from weights computed anew.
//!
//! With P the weights and ∂O the gradient of the output: D = rowsum(∂O ∘ O), ∂S = P ∘ (∂O Vᵍᵀ − D),
//! ∂Q = scale · ∂S Kᵍ, ∂K = scale · ∂Sᵀ Q, ∂V = Pᵀ ∂O.
//!
//! Each number is written by one unit, so that nothing is added atomically and the order of every sum is
//! the same in each run: one unit for each query token and head, as in the forward pass, and one for
//! each key token and head, for which the region graph is inverted. The first leaves the logarithm of the
//! sum of weights and D for the second.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::heads::{accumulate, add, dot, read, routed, scale, write};
use crate::gpu::{Grid, LOWEST, at, start, zeros};

/// # Shapes
/// - query, key, value, output, grad_output:
///   `[batch, rows * region_height, cols * region_width, channels]`, of any strides
/// - grad_qkv: the same with `3 * channels`, of query, key and value
/// - region_graph: `[batch, regions, topk]`
/// - sums: `[batch, rows * region_height, cols * region_width, num_heads, 2]`: logarithm and D
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn query_gradient<E: Float, I: Int, N: Size>(
    query: &Tensor<Vector<E, N>>,
    key: &Tensor<Vector<E, N>>,
    value: &Tensor<Vector<E, N>>,
    region_graph: &Tensor<I>,
    output: &Tensor<Vector<E, N>>,
    grad_output: &Tensor<Vector<E, N>>,
    grad_qkv: &mut Tensor<Vector<E, N>>,
    sums: &mut Tensor<f32>,
    factor: f32,
    grid: &Grid,
    #[comptime] head_dim: usize,
    #[comptime] mask_padding: bool,
    #[define(E, I)] _types: [ElemType; 2],
) {
    let vector_size = query.vector_size();
    let vectors = comptime!(head_dim / vector_size);
    let num_heads = sums.shape(3);
    let regions = region_graph.shape(1);
    if ABSOLUTE_POS >= query.shape(0) * regions * num_heads * grid.tokens() {
        terminate!();
    }
    let place = grid.place(ABSOLUTE_POS, num_heads, regions);
    let channel = place.head * head_dim;

    let query_place = at(query, start(query, place.image, channel), place.y, place.x);
    let own = read(query, query_place, factor, vectors);
    let grad_place = at(grad_output, start(grad_output, place.image, channel), place.y, place.x);
    let grad = read(grad_output, grad_place, 1.0f32, vectors);
    let output_place = at(output, start(output, place.image, channel), place.y, place.x);
    let mean = dot(&grad, output, output_place, vectors); // D
    let mut gradient = zeros::<N>(vectors);
    let mut max = f32::new(LOWEST);
    let mut sum = 0.0f32;

    let key_start = start(key, place.image, channel);
    let value_start = start(value, place.image, channel);
    for number in 0..region_graph.shape(2) {
        let keys =
            grid.region(routed(region_graph, place.image, place.region, number), mask_padding);
        let mut y = keys.top;
        while y < keys.bottom {
            let mut x = keys.left;
            while x < keys.right {
                let key_place = at(key, key_start, y, x);
                let logit = dot(&own, key, key_place, vectors);
                if logit > max {
                    let shrink = (max - logit).exp();
                    sum *= shrink;
                    scale(&mut gradient, shrink, vectors);
                    max = logit;
                }
                let weight = (logit - max).exp();
                sum += weight;
                let grad_weight = dot(&grad, value, at(value, value_start, y, x), vectors);
                add(&mut gradient, weight * (grad_weight - mean), key, key_place, vectors);
                x += 1;
            }
            y += 1;
        }
    }

    let place_in_sums = place.image * sums.stride(0)
        + place.y * sums.stride(1)
        + place.x * sums.stride(2)
        + place.head * sums.stride(3);
    sums[place_in_sums] = max + sum.ln();
    sums[place_in_sums + 1] = mean;
    let grad_place = at(&*grad_qkv, start(&*grad_qkv, place.image, channel), place.y, place.x);
    write(grad_qkv, grad_place, &gradient, factor / sum, vectors);
}

/// How often each region is attended to by each other. One unit = one pair of regions.
///
/// # Shapes
/// - region_graph: `[batch, regions, topk]`
/// - attended: `[batch, regions, regions]`, first the region of the keys
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn invert<I: Int>(
    region_graph: &Tensor<I>,
    attended: &mut Tensor<u32>,
    #[define(I)] _type: ElemType,
) {
    let regions = attended.shape(2);
    if ABSOLUTE_POS >= attended.shape(0) * regions * regions {
        terminate!();
    }
    let by = ABSOLUTE_POS % regions;
    let region = ABSOLUTE_POS / regions % regions;
    let image = ABSOLUTE_POS / (regions * regions);
    let mut count = 0u32;
    for number in 0..region_graph.shape(2) {
        count += u32::cast_from(routed(region_graph, image, by, number) == region);
    }
    attended[ABSOLUTE_POS] = count;
}

/// # Shapes
/// - as in [`query_gradient`]
/// - attended: `[batch, regions, regions]`, of [`invert`]
///
/// With `adds_value`, `grad_qkv` has a part of the gradient of V already.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn key_value_gradients<E: Float, N: Size>(
    query: &Tensor<Vector<E, N>>,
    key: &Tensor<Vector<E, N>>,
    value: &Tensor<Vector<E, N>>,
    attended: &Tensor<u32>,
    grad_output: &Tensor<Vector<E, N>>,
    sums: &Tensor<f32>,
    grad_qkv: &mut Tensor<Vector<E, N>>,
    factor: f32,
    grid: &Grid,
    #[comptime] head_dim: usize,
    #[comptime] mask_padding: bool,
    #[comptime] adds_value: bool,
    #[define(E)] _type: ElemType,
) {
    let vector_size = query.vector_size();
    let vectors = comptime!(head_dim / vector_size);
    let num_heads = sums.shape(3);
    let regions = attended.shape(2);
    if ABSOLUTE_POS >= key.shape(0) * regions * num_heads * grid.tokens() {
        terminate!();
    }
    let place = grid.place(ABSOLUTE_POS, num_heads, regions);
    let channel = place.head * head_dim;

    let key_place = at(key, start(key, place.image, channel), place.y, place.x);
    let own_key = read(key, key_place, factor, vectors);
    let value_place = at(value, start(value, place.image, channel), place.y, place.x);
    let own_value = read(value, value_place, 1.0f32, vectors);
    let mut key_gradient = zeros::<N>(vectors);
    let mut value_gradient = zeros::<N>(vectors);

    let query_start = start(query, place.image, channel);
    let grad_start = start(grad_output, place.image, channel);
    let sums_start = place.image * sums.stride(0) + place.head * sums.stride(3);
    let mut is_key = true;
    if comptime!(mask_padding) {
        is_key = !grid.is_padding(place.y, place.x);
    }
    if is_key {
        let row = (place.image * regions + place.region) * regions;
        for by in 0..regions {
            let times = f32::cast_from(attended[row + by]);
            if times > 0.0 {
                let queries = grid.region(by, false);
                let mut y = queries.top;
                while y < queries.bottom {
                    let mut x = queries.left;
                    while x < queries.right {
                        let query_place = at(query, query_start, y, x);
                        let grad_place = at(grad_output, grad_start, y, x);
                        let place_in_sums = sums_start + y * sums.stride(1) + x * sums.stride(2);
                        let logit = dot(&own_key, query, query_place, vectors);
                        let weight = times * (logit - sums[place_in_sums]).exp();
                        let grad_weight = dot(&own_value, grad_output, grad_place, vectors);
                        let grad_logit = weight * (grad_weight - sums[place_in_sums + 1]);
                        add(&mut key_gradient, grad_logit, query, query_place, vectors);
                        add(&mut value_gradient, weight, grad_output, grad_place, vectors);
                        x += 1;
                    }
                    y += 1;
                }
            }
        }
    }

    let key_start = start(&*grad_qkv, place.image, num_heads * head_dim + channel);
    let key_place = at(&*grad_qkv, key_start, place.y, place.x);
    write(grad_qkv, key_place, &key_gradient, factor, vectors);
    let value_start = start(&*grad_qkv, place.image, 2 * num_heads * head_dim + channel);
    let value_place = at(&*grad_qkv, value_start, place.y, place.x);
    if comptime!(adds_value) {
        accumulate(&mut value_gradient, &*grad_qkv, value_place, vectors);
    }
    write(grad_qkv, value_place, &value_gradient, 1.0f32, vectors);
}
