//! Backward pass, by recomputation of the weights from the saved sums of exponentials.
//!
//! One task = one head of one image. It alone adds to its channels of the gradients of K and V, query
//! region after query region, so that the result does not depend on the number of threads.
//! For a block of query tokens at a time, the weights P and their gradients lie in the second cache:
//!
//! ```text
//! P = e^(scale · Q Kᵀ − log sum)      dP = dO Vᵀ      dS = P ∘ (dP − rowsum(dO ∘ O))
//! dQ = scale · dS K      dK += dSᵀ (scale · Q)      dV += Pᵀ dO
//! ```

#![allow(unsafe_code)]

use std::ops::Range;

use rayon::prelude::*;

use super::layout::{Buffer, Map, Offsets, Problem, parts};
use super::quads::{self, QUAD};
use super::{softmax, tile};
use crate::parallel::Target;
use crate::simd::{Simd, WithSimd, dispatch, load, load_some, mul_add, store, store_some};

/// Numbers of a block of weights.
const BLOCK: usize = 1 << 15;

/// What the forward pass has left.
pub(crate) struct Saved<'a> {
    /// `[batch, height, width, channels]`
    pub output: Map<'a>,
    /// `[batch, regions, num_heads, tokens]`
    pub log_sums: &'a [f32],
}

/// The gradients of query, key and value, each `[batch, height, width, channels]`.
pub(crate) fn gradients(problem: &Problem, saved: &Saved, grad: Map) -> [Vec<f32>; 3] {
    let Problem { batch, num_heads, head_dim, grid, .. } = *problem;
    let ([height, width], channels) = (grid.padded_size(), num_heads * head_dim);
    let len = batch * height * width * channels;
    let mut grad_query = Vec::with_capacity(len);
    let (mut grad_key, mut grad_value) = (vec![0.0; len], vec![0.0; len]);
    let strides = [height * width * channels, width * channels, channels];
    let images = Images {
        problem,
        saved,
        grad,
        query: Offsets::new(problem.query.strides, grid),
        key: Offsets::new(problem.key.strides, grid),
        value: Offsets::new(problem.value.strides, grid),
        output: Offsets::new(saved.output.strides, grid),
        grad_output: Offsets::new(grad.strides, grid),
        gradient: Offsets::new(strides, grid),
        image_len: strides[0],
        grad_query: Target::new(grad_query.as_mut_ptr()),
        grad_key: Target::new(grad_key.as_mut_ptr()),
        grad_value: Target::new(grad_value.as_mut_ptr()),
    };
    let run = |task: usize| {
        dispatch(Head { images: &images, n: task / num_heads, head: task % num_heads });
    };
    if rayon::current_num_threads() == 1 {
        (0..batch * num_heads).for_each(run);
    } else {
        (0..batch * num_heads).into_par_iter().for_each(run);
    }
    // SAFETY: the tokens of all regions and the channels of all heads were written.
    unsafe { grad_query.set_len(len) };
    [grad_query, grad_key, grad_value]
}

/// The images of a problem, whose tokens all lie in the same places.
struct Images<'a> {
    problem: &'a Problem<'a>,
    saved: &'a Saved<'a>,
    grad: Map<'a>,
    query: Offsets,
    key: Offsets,
    value: Offsets,
    output: Offsets,
    grad_output: Offsets,
    /// Of the gradients of query, key and value.
    gradient: Offsets,
    image_len: usize,
    grad_query: Target,
    grad_key: Target,
    grad_value: Target,
}

/// One head of one image.
struct Head<'a> {
    images: &'a Images<'a>,
    n: usize,
    head: usize,
}

/// What a task writes beside the gradients.
struct Scratch {
    /// Quads of the routed keys and values, and rows of the keys in their map.
    key_quads: Vec<*const f32>,
    value_quads: Vec<*const f32>,
    key_rows: Vec<usize>,
    /// Where the gradients of the routed keys and values go.
    key_gradients: Vec<*mut f32>,
    value_gradients: Vec<*mut f32>,
    /// Where those of the copies that fill the last quad of a region go.
    nowhere: Buffer,
    /// Queries of a tile, or their gradients, in quads.
    packed: Buffer,
    /// scale · Q and dO of a block, `[rows, whole tiles]`.
    queries: Buffer,
    grads: Buffer,
    /// log sum and rowsum(dO ∘ O) of each row of a block, four times.
    log_sums: Buffer,
    dots: Buffer,
    /// P and dS of a block, `[quads, rows, 4]`.
    weights: Buffer,
    weight_grads: Buffer,
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let images = self.images;
        let problem = images.problem;
        let Problem { head_dim, grid, key, value, .. } = *problem;
        let (tokens, padded_keys) = (grid.tokens(), problem.padded_keys());
        let len = quads::region_len(tokens, head_dim);
        let mut keys = Buffer::new(grid.regions() * len);
        let mut values = Buffer::new(grid.regions() * len);
        for region in 0..grid.regions() {
            let key = self.at(key, &images.key, region);
            let value = self.at(value, &images.value, region);
            // SAFETY: `Problem` holds whole maps; the buffers hold all regions.
            unsafe {
                let (keys, values) = (keys.as_mut_ptr(), values.as_mut_ptr());
                quads::pack(key, &images.key.tokens, head_dim, keys.add(region * len));
                quads::pack(value, &images.value.tokens, head_dim, values.add(region * len));
            }
        }
        let tile = quads::max_queries::<S>();
        let most_rows = (BLOCK / padded_keys / tile).max(1) * tile;
        let rows = most_rows.min(tokens).next_multiple_of(quads::queries::<S>());
        let width = head_dim.next_multiple_of(tile::width::<S>());
        let mut scratch = Scratch {
            key_quads: Vec::with_capacity(padded_keys / QUAD),
            value_quads: Vec::with_capacity(padded_keys / QUAD),
            key_rows: Vec::with_capacity(padded_keys),
            key_gradients: Vec::with_capacity(padded_keys),
            value_gradients: Vec::with_capacity(padded_keys),
            nowhere: Buffer::new(width),
            packed: Buffer::new(quads::region_len(quads::max_queries::<S>(), head_dim)),
            queries: Buffer::new(rows * width),
            grads: Buffer::new(rows * width),
            log_sums: Buffer::new(rows * QUAD),
            dots: Buffer::new(rows * QUAD),
            weights: Buffer::new(rows * padded_keys),
            weight_grads: Buffer::new(rows * padded_keys),
        };
        let mut bias = Buffer::new(padded_keys);
        for region in 0..grid.regions() {
            let routed = problem.routed(self.n, region);
            let bias = problem.fill_bias(routed, bias.as_mut_slice());
            let packed =
                |start: *const f32| routed.iter().map(move |r| start.wrapping_add(r * len));
            quads::of_regions(packed(keys.as_ptr()), tokens, head_dim, &mut scratch.key_quads);
            quads::of_regions(packed(values.as_ptr()), tokens, head_dim, &mut scratch.value_quads);
            images.key.of_regions(routed, &mut scratch.key_rows);
            self.gradient_rows(routed, &mut scratch);
            // A tile must not add to the same token twice: it takes one quad at a time where a
            // region is routed to twice.
            let is_twice = |(i, region)| routed[..i].contains(region);
            let most_keys = match routed.iter().enumerate().any(is_twice) {
                true => QUAD,
                false => tile::max_rows::<S>() / QUAD * QUAD,
            };
            for rows in parts(tokens, most_rows) {
                // SAFETY: the buffers hold `most_rows`, and the channels of the head are the
                // task's to write.
                unsafe {
                    self.load_rows(simd, region, rows.clone(), &mut scratch);
                    self.weights(simd, region, rows.clone(), bias, &mut scratch);
                    self.query_gradient(simd, region, rows.clone(), &mut scratch);
                    self.key_value_gradients(simd, rows.len(), most_keys, &mut scratch);
                }
            }
        }
    }
}

impl Head<'_> {
    /// The first number of this head at the first token of a region.
    fn at(&self, map: Map, offsets: &Offsets, region: usize) -> *const f32 {
        let channel = self.head * self.images.problem.head_dim;
        let offset = self.n * map.strides[0] + offsets.regions[region] + channel;
        map.values.as_ptr().wrapping_add(offset)
    }

    /// Lists where the gradients of the routed keys and values go.
    fn gradient_rows(&self, routed: &[usize], scratch: &mut Scratch) {
        let images = self.images;
        let start = self.n * images.image_len + self.head * images.problem.head_dim;
        let nowhere = scratch.nowhere.as_mut_ptr();
        for (target, rows) in [
            (images.grad_key, &mut scratch.key_gradients),
            (images.grad_value, &mut scratch.value_gradients),
        ] {
            rows.clear();
            for &region in routed {
                let first = target.at(start + images.gradient.regions[region]);
                rows.extend(images.gradient.tokens.iter().map(|&token| first.wrapping_add(token)));
                rows.resize(rows.len().next_multiple_of(QUAD), nowhere);
            }
        }
    }

    /// Copies scale · Q and dO of a block, and computes what stands once a row.
    #[inline(always)]
    unsafe fn load_rows<S: Simd>(
        &self,
        simd: S,
        region: usize,
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let images = self.images;
        let Problem { num_heads, head_dim, grid, query, scale, .. } = *images.problem;
        let query = self.at(query, &images.query, region);
        let output = self.at(images.saved.output, &images.output, region);
        let grad = self.at(images.grad, &images.grad_output, region);
        let first = ((self.n * grid.regions() + region) * num_heads + self.head) * grid.tokens();
        let width = head_dim.next_multiple_of(tile::width::<S>());
        let scale = simd.splat_f32s(scale);
        let padded = rows.len().next_multiple_of(quads::queries::<S>());
        for i in 0..padded {
            let token = (rows.start + i).min(rows.end - 1);
            let mut dot = simd.splat_f32s(0.0);
            for d in (0..head_dim).step_by(S::F32_LANES) {
                // SAFETY: the caller's, and `Images` holds whole maps.
                unsafe {
                    let number = |map: *const f32, offsets: &Offsets| {
                        load_some(simd, map.add(offsets.tokens[token] + d), head_dim - d)
                    };
                    let query = number(query, &images.query);
                    let grad = number(grad, &images.grad_output);
                    dot = mul_add(simd, grad, number(output, &images.output), dot);
                    let at = i * width + d;
                    store(simd, scratch.queries.as_mut_ptr().add(at), simd.mul_f32s(scale, query));
                    store(simd, scratch.grads.as_mut_ptr().add(at), grad);
                }
            }
            let log_sum = images.saved.log_sums[first + token];
            let at = i * QUAD..(i + 1) * QUAD;
            scratch.log_sums.as_mut_slice()[at.clone()].fill(log_sum);
            scratch.dots.as_mut_slice()[at].fill(simd.reduce_sum_f32s(dot));
        }
    }

    /// P and dS of a block.
    #[inline(always)]
    unsafe fn weights<S: Simd>(
        &self,
        simd: S,
        region: usize,
        rows: Range<usize>,
        bias: Option<*const f32>,
        scratch: &mut Scratch,
    ) {
        let images = self.images;
        let Problem { head_dim, query, scale, .. } = *images.problem;
        let query = self.at(query, &images.query, region);
        let grad = self.at(images.grad, &images.grad_output, region);
        let stride = rows.len().next_multiple_of(quads::queries::<S>()) * QUAD;
        for tile in quads::tiles::<S>(rows.clone()) {
            let vectors = tile.len().div_ceil(quads::queries::<S>());
            let first = (tile.start - rows.start) * QUAD;
            let weights = scratch.weights.as_mut_ptr().wrapping_add(first);
            let weight_grads = scratch.weight_grads.as_mut_ptr().wrapping_add(first);
            let products = [
                (query, &images.query, scale, &scratch.key_quads, bias, weights),
                (grad, &images.grad_output, 1.0, &scratch.value_quads, None, weight_grads),
            ];
            for (source, offsets, factor, quads, bias, target) in products {
                let offsets = &offsets.tokens[tile.clone()];
                let packed = &mut scratch.packed;
                // SAFETY: the caller's.
                unsafe {
                    quads::pack_scaled(simd, source, offsets, head_dim, factor, packed);
                    let packed = packed.as_ptr();
                    quads::multiply(simd, vectors, head_dim, packed, quads, bias, target, stride);
                }
            }
            for v in 0..vectors {
                let at = v * S::F32_LANES;
                // SAFETY: the caller's.
                unsafe {
                    let log_sum = load(simd, scratch.log_sums.as_ptr().add(first + at));
                    let dot = load(simd, scratch.dots.as_ptr().add(first + at));
                    for quad in 0..scratch.key_quads.len() {
                        let weight = weights.add(quad * stride + at);
                        let weight_grad = weight_grads.add(quad * stride + at);
                        let logit = simd.sub_f32s(load(simd, weight), log_sum);
                        let p = softmax::weight(simd, logit);
                        let dp = load(simd, weight_grad);
                        store(simd, weight, p);
                        store(simd, weight_grad, simd.mul_f32s(p, simd.sub_f32s(dp, dot)));
                    }
                }
            }
        }
    }

    /// dQ = scale · dS K
    #[inline(always)]
    unsafe fn query_gradient<S: Simd>(
        &self,
        simd: S,
        region: usize,
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let images = self.images;
        let Problem { head_dim, key, scale, .. } = *images.problem;
        let keys = key.values.as_ptr();
        let keys = keys.wrapping_add(self.n * key.strides[0] + self.head * head_dim);
        let first = self.n * images.image_len + images.gradient.regions[region];
        let target = images.grad_query.at(first + self.head * head_dim);
        let stride = rows.len().next_multiple_of(quads::queries::<S>()) * QUAD;
        let scale = simd.splat_f32s(scale);
        for tile in parts(rows.len(), tile::max_rows::<S>()) {
            let weight_grads = scratch.weight_grads.as_ptr().wrapping_add(tile.start * QUAD);
            let offsets = &images.gradient.tokens[rows.start + tile.start..rows.start + tile.end];
            for d in (0..head_dim).step_by(tile::width::<S>()) {
                // SAFETY: the caller's.
                unsafe {
                    tile::multiply(
                        simd,
                        tile.len(),
                        scratch.key_rows.len(),
                        |i, k| weight_grads.wrapping_add(k / QUAD * stride + QUAD * i + k % QUAD),
                        |k| keys.wrapping_add(*scratch.key_rows.as_ptr().add(k) + d),
                        |_, _| simd.splat_f32s(0.0),
                        |i, v, sum| {
                            let d = d + v * S::F32_LANES;
                            if d < head_dim {
                                let sum = simd.mul_f32s(scale, sum);
                                store_some(simd, target.add(offsets[i] + d), sum, head_dim - d);
                            }
                        },
                    );
                }
            }
        }
    }

    /// dK += dSᵀ (scale · Q) and dV += Pᵀ dO, by tiles of at most `most` keys, in whole quads.
    #[inline(always)]
    unsafe fn key_value_gradients<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        most: usize,
        scratch: &mut Scratch,
    ) {
        let head_dim = self.images.problem.head_dim;
        let width = head_dim.next_multiple_of(tile::width::<S>());
        let stride = rows.next_multiple_of(quads::queries::<S>()) * QUAD;
        let products = [
            (&scratch.weight_grads, &scratch.queries, &scratch.key_gradients),
            (&scratch.weights, &scratch.grads, &scratch.value_gradients),
        ];
        for (weights, factors, targets) in products {
            for (targets, first) in targets.chunks(most).zip((0..).step_by(most)) {
                let weights = weights.as_ptr().wrapping_add(first / QUAD * stride);
                for d in (0..head_dim).step_by(tile::width::<S>()) {
                    let factors = factors.as_ptr().wrapping_add(d);
                    let rest = |v: usize| head_dim.saturating_sub(d + v * S::F32_LANES);
                    let target = |i: usize, v: usize| targets[i].wrapping_add(d + v * S::F32_LANES);
                    // SAFETY: the caller's.
                    unsafe {
                        tile::multiply(
                            simd,
                            targets.len(),
                            rows,
                            |i, k| weights.wrapping_add(i / QUAD * stride + QUAD * k + i % QUAD),
                            |k| factors.wrapping_add(k * width),
                            |i, v| load_some(simd, target(i, v), rest(v)),
                            |i, v, sum| store_some(simd, target(i, v), sum, rest(v)),
                        );
                    }
                }
            }
        }
    }
}
