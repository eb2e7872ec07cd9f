//! One block of query tokens in the backward pass: P and dS, then the products with them.
//!
//! Weights lie in quads of keys, as in the forward pass; what belongs to a row stands four times.

#![allow(unsafe_code, reason = "tokens are reached through the region graph")]

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::backward::Head;
use super::layout::{Buffer, Offsets, Problem, parts};
use super::quads::{self, QUAD};
use super::tile;
use crate::math;
use crate::simd::{Simd, load, load_some, mul_add, store, store_some};

/// What a task writes beside the gradients.
pub(super) struct Scratch {
    /// Quads of the routed keys and values, and rows of the keys in their map.
    pub key_quads: Vec<*const f32>,
    pub value_quads: Vec<*const f32>,
    pub key_rows: Vec<usize>,
    /// Where the gradients of the routed keys and values go.
    pub key_gradients: Vec<*mut f32>,
    pub value_gradients: Vec<*mut f32>,
    /// Where those of the copies that fill the last quad of a region go.
    pub nowhere: Buffer,
    /// Queries of a tile, or their gradients, in quads.
    pub packed: Buffer,
    /// scale · Q and dO of a block, `[rows, whole tiles]`.
    pub queries: Buffer,
    pub grads: Buffer,
    /// log₂ sum and rowsum(dO ∘ O) of each row of a block, four times.
    pub log_sums: Buffer,
    pub dots: Buffer,
    /// P and dS of a block, `[quads, rows, 4]`.
    pub weights: Buffer,
    pub weight_grads: Buffer,
}

impl Scratch {
    /// For blocks of at most `rows` query tokens.
    pub fn new<S: Simd>(problem: &Problem, rows: usize) -> Self {
        let (head_dim, padded_keys) = (problem.head_dim, problem.padded_keys());
        let rows = rows.next_multiple_of(quads::queries::<S>());
        let width = head_dim.next_multiple_of(tile::width::<S>());
        Self {
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
        }
    }
}

impl Head<'_> {
    /// Copies scale · Q and dO of a block, and computes what stands once a row.
    #[inline(always)]
    pub unsafe fn load_rows<S: Simd>(
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
    pub unsafe fn weights<S: Simd>(
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
                (query, &images.query, scale * LOG2_E, &scratch.key_quads, bias, weights),
                (grad, &images.grad_output, 1.0, &scratch.value_quads, None, weight_grads),
            ];
            for (source, offsets, factor, quads, bias, target) in products {
                let offsets = &offsets.tokens[tile.clone()];
                let packed = scratch.packed.as_mut_ptr();
                // SAFETY: the caller's.
                unsafe {
                    quads::pack(source, offsets, head_dim, factor, packed);
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
                        let p = math::exp2(simd, logit);
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
    pub unsafe fn query_gradient<S: Simd>(
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
    pub unsafe fn key_value_gradients<S: Simd>(
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
