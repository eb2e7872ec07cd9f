//! One head of one window after the other: logits, softmax, and the products around them.
//!
//! A block of queries at a time, so that its weights stay in the first caches. Backward computes them again:
//!
//! ```text
//! P = softmax(scale · Q Kᵀ + B)      dP = dO Vᵀ      dS = P ∘ (dP − rowsum(P ∘ dP))
//! dQ = scale · dS K      dK += dSᵀ (scale · Q)      dV += Pᵀ dO      dB += dS
//! ```

#![allow(unsafe_code, reason = "products read and write through pointers")]

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::cpu::Problem;
use crate::math;
use crate::parallel::Target;
use crate::routed_attention::layout::{Buffer, Map, parts};
use crate::routed_attention::tile;
use crate::simd::{Simd, WithSimd, load, load_some, mul_add, store, store_some};

/// Queries of a block: four tiles of the widest vectors.
const ROWS: usize = 48;

/// Some heads of windows, in the order `[batch, windows, num_heads]`.
pub(super) struct Forward<'a> {
    pub problem: &'a Problem<'a>,
    pub heads: Range<usize>,
    /// `[batch, windows, queries, channels]`
    pub output: Target,
}

/// One head of some windows.
pub(super) struct Backward<'a> {
    pub problem: &'a Problem<'a>,
    /// Of the output.
    pub grad: Map<'a>,
    pub head: usize,
    /// Image and window of each.
    pub places: &'a [[usize; 2]],
    /// The gradients of query, key and value, `[batch, windows, tokens, channels]`.
    pub targets: [Target; 3],
    /// The sum of the gradients of the bias, `[queries, keys]`, from 0.
    pub bias: Option<*mut f32>,
}

/// Rows that lie equally far apart.
#[derive(Clone, Copy)]
struct Rows {
    first: *const f32,
    stride: usize,
}

impl Rows {
    /// The tokens of a head in a window.
    fn of(map: &Map, [n, window, head]: [usize; 3], head_dim: usize) -> Self {
        let [image, of_window, stride] = map.strides;
        let first = n * image + window * of_window + head * head_dim;
        Self { first: map.values.as_ptr().wrapping_add(first), stride }
    }

    fn from(self, row: usize) -> Self {
        Self { first: self.at(row, 0), ..self }
    }

    #[inline(always)]
    fn at(self, row: usize, col: usize) -> *const f32 {
        self.first.wrapping_add(row * self.stride + col)
    }

    /// Copies `rows` of `cols` numbers, times `scale`, to rows `stride` apart.
    ///
    /// # Safety
    /// They can be read, and written to `target`.
    unsafe fn copy(self, [rows, cols]: [usize; 2], scale: f32, target: *mut f32, stride: usize) {
        for row in 0..rows {
            for col in 0..cols {
                // SAFETY: the caller's.
                unsafe { *target.add(row * stride + col) = scale * *self.at(row, col) };
            }
        }
    }

    /// Copies columns to rows `stride` apart.
    ///
    /// # Safety
    /// As [`Rows::copy`].
    unsafe fn transpose(self, [rows, cols]: [usize; 2], target: *mut f32, stride: usize) {
        for row in 0..rows {
            for col in 0..cols {
                // SAFETY: the caller's.
                unsafe { *target.add(col * stride + row) = *self.at(row, col) };
            }
        }
    }
}

/// C = A B, or C += A B, of `rows` rows, `inner` steps and `cols` columns; B and C have whole tiles of columns. The
/// number of A at (i, k) is `a[i * across + k * along]`.
///
/// # Safety
/// A and B can be read, and C can be written.
#[inline(always)]
unsafe fn multiply<S: Simd, const ADD: bool>(
    simd: S,
    [rows, inner, cols]: [usize; 3],
    a: *const f32,
    [across, along]: [usize; 2],
    b: Rows,
    c: *mut f32,
    c_stride: usize,
) {
    for tile in parts(rows, tile::max_rows::<S>()) {
        let a = a.wrapping_add(tile.start * across);
        for col in (0..cols).step_by(tile::width::<S>()) {
            let c = c.wrapping_add(tile.start * c_stride + col);
            // SAFETY: the caller's.
            unsafe {
                tile::multiply(
                    simd,
                    tile.len(),
                    inner,
                    |i, k| a.wrapping_add(i * across + k * along),
                    |k| b.at(k, col),
                    |i, v| {
                        if ADD {
                            load(simd, c.wrapping_add(i * c_stride + v * S::F32_LANES))
                        } else {
                            simd.splat_f32s(0.0)
                        }
                    },
                    |i, v, sum| {
                        store(simd, c.wrapping_add(i * c_stride + v * S::F32_LANES), sum);
                    },
                );
            }
        }
    }
}

/// `count` numbers in whole tiles.
fn padded<S: Simd>(count: usize) -> usize {
    count.next_multiple_of(tile::width::<S>())
}

/// Writes the weights of a block of queries: softmax(scale · Q Kᵀ + B).
///
/// # Safety
/// `query` has the head of `rows` tokens; `keys` is Kᵀ in whole tiles; `bias` has `rows` rows of the keys, and
/// `weights` as many in whole tiles.
#[inline(always)]
unsafe fn softmax<S: Simd>(
    simd: S,
    problem: &Problem,
    rows: usize,
    query: Rows,
    keys: Rows,
    bias: Option<Rows>,
    weights: *mut f32,
) {
    let (count, stride) = (problem.keys, keys.stride);
    let scale = simd.splat_f32s(problem.scale);
    let shape = [rows, problem.head_dim, count];
    // SAFETY: the caller's.
    unsafe {
        multiply::<S, false>(simd, shape, query.first, [query.stride, 1], keys, weights, stride);
        for i in 0..rows {
            let row = weights.add(i * stride);
            for col in (0..count).step_by(S::F32_LANES) {
                let bias = match bias {
                    Some(bias) => load_some(simd, bias.at(i, col), count - col),
                    None => simd.splat_f32s(0.0),
                };
                store(simd, row.add(col), mul_add(simd, load(simd, row.add(col)), scale, bias));
            }
            for col in count..stride {
                *row.add(col) = f32::NEG_INFINITY;
            }
            let mut max = simd.splat_f32s(f32::NEG_INFINITY);
            for col in (0..stride).step_by(S::F32_LANES) {
                max = simd.max_f32s(max, load(simd, row.add(col)));
            }
            let max = simd.splat_f32s(simd.reduce_max_f32s(max));
            let (mut sum, log2_e) = (simd.splat_f32s(0.0), simd.splat_f32s(LOG2_E));
            for col in (0..stride).step_by(S::F32_LANES) {
                let x = simd.sub_f32s(load(simd, row.add(col)), max);
                let x = math::exp2(simd, simd.mul_f32s(x, log2_e));
                store(simd, row.add(col), x);
                sum = simd.add_f32s(sum, x);
            }
            let factor = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
            for col in (0..stride).step_by(S::F32_LANES) {
                store(simd, row.add(col), simd.mul_f32s(factor, load(simd, row.add(col))));
            }
        }
    }
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { problem, heads, output } = self;
        let Problem { windows, queries, keys, num_heads, head_dim, .. } = *problem;
        let (channels, width, wide) =
            (problem.channels(), padded::<S>(head_dim), padded::<S>(keys));
        let mut transposed = Buffer::new(head_dim * wide);
        let mut values = Buffer::new(keys * width);
        let mut weights = Buffer::new(ROWS.min(queries) * wide);
        let mut outputs = Buffer::new(ROWS.min(queries) * width);
        for place in heads {
            let (n, window) = (place / num_heads / windows, place / num_heads % windows);
            let place = [n, window, place % num_heads];
            let query = Rows::of(&problem.query, place, head_dim);
            let bias = problem.bias(window, place[2]);
            let bias = bias.map(|bias| Rows { first: bias.as_ptr(), stride: keys });
            let first = (n * windows + window) * queries * channels + place[2] * head_dim;
            // SAFETY: the maps are whole, the buffers as large as needed, and the channels of the head are
            // written here alone.
            unsafe {
                let (key, value) = (&problem.key, &problem.value);
                let (of_keys, of_values) = (transposed.as_mut_ptr(), values.as_mut_ptr());
                Rows::of(key, place, head_dim).transpose([keys, head_dim], of_keys, wide);
                Rows::of(value, place, head_dim).copy([keys, head_dim], 1.0, of_values, width);
                let (of_keys, of_values) = (
                    Rows { first: of_keys, stride: wide },
                    Rows { first: of_values, stride: width },
                );
                for rows in parts(queries, ROWS) {
                    let query = query.from(rows.start);
                    let bias = bias.map(|bias| bias.from(rows.start));
                    let weights = weights.as_mut_ptr();
                    softmax(simd, problem, rows.len(), query, of_keys, bias, weights);
                    let (shape, outputs) = ([rows.len(), keys, head_dim], outputs.as_mut_ptr());
                    multiply::<S, false>(
                        simd,
                        shape,
                        weights,
                        [wide, 1],
                        of_values,
                        outputs,
                        width,
                    );
                    let target = output.at(first + rows.start * channels);
                    let outputs = Rows { first: outputs, stride: width };
                    outputs.copy([rows.len(), head_dim], 1.0, target, channels);
                }
            }
        }
    }
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { problem, grad, head, places, targets, bias: grad_bias } = self;
        let Problem { windows, queries, keys, head_dim, scale, .. } = *problem;
        let (channels, width, wide) =
            (problem.channels(), padded::<S>(head_dim), padded::<S>(keys));
        let most = ROWS.min(queries);
        let [mut keys_of, mut keys_across, mut values_across] =
            [keys * width, head_dim * wide, head_dim * wide].map(Buffer::new);
        let [mut scaled, mut grads] = [most * width; 2].map(Buffer::new);
        let [mut weights, mut weight_grads] = [most * wide; 2].map(Buffer::new);
        let mut sums = [keys * width; 2].map(Buffer::new);
        let shape = [keys, head_dim];
        for &[n, window] in places {
            let place = [n, window, head];
            let [query, key, value] = [&problem.query, &problem.key, &problem.value]
                .map(|map| Rows::of(map, place, head_dim));
            let grad = Rows::of(&grad, place, head_dim);
            let bias = problem.bias(window, head);
            let bias = bias.map(|bias| Rows { first: bias.as_ptr(), stride: keys });
            let first =
                |tokens: usize| ((n * windows + window) * tokens) * channels + head * head_dim;
            sums.iter_mut().for_each(|sum| sum.as_mut_slice().fill(0.0));
            // SAFETY: the maps are whole, the buffers as large as needed, and the channels of the head and the
            // sums of the bias are written here alone.
            unsafe {
                key.copy(shape, 1.0, keys_of.as_mut_ptr(), width);
                key.transpose(shape, keys_across.as_mut_ptr(), wide);
                value.transpose(shape, values_across.as_mut_ptr(), wide);
                let keys_of = Rows { first: keys_of.as_ptr(), stride: width };
                let keys_across = Rows { first: keys_across.as_ptr(), stride: wide };
                let values_across = Rows { first: values_across.as_ptr(), stride: wide };
                for rows in parts(queries, ROWS) {
                    let count = rows.len();
                    let (query, grad) = (query.from(rows.start), grad.from(rows.start));
                    let (p, ds) = (weights.as_mut_ptr(), weight_grads.as_mut_ptr());
                    let (scaled, grads) = (scaled.as_mut_ptr(), grads.as_mut_ptr());
                    query.copy([count, head_dim], scale, scaled, width);
                    grad.copy([count, head_dim], 1.0, grads, width);
                    let bias = bias.map(|bias| bias.from(rows.start));
                    softmax(simd, problem, count, query, keys_across, bias, p);
                    let shape = [count, head_dim, keys];
                    let strides = [grad.stride, 1];
                    multiply::<S, false>(simd, shape, grad.first, strides, values_across, ds, wide);
                    for i in 0..count {
                        let (p, ds) = (p.add(i * wide), ds.add(i * wide));
                        let mut dot = simd.splat_f32s(0.0);
                        for col in (0..wide).step_by(S::F32_LANES) {
                            let (p, dp) = (load(simd, p.add(col)), load(simd, ds.add(col)));
                            dot = mul_add(simd, p, dp, dot);
                        }
                        let dot = simd.splat_f32s(simd.reduce_sum_f32s(dot));
                        for col in (0..wide).step_by(S::F32_LANES) {
                            let (p, dp) = (load(simd, p.add(col)), load(simd, ds.add(col)));
                            let x = simd.mul_f32s(p, simd.sub_f32s(dp, dot));
                            store(simd, ds.add(col), x);
                            if let Some(sum) = grad_bias
                                && col < keys
                            {
                                let sum = sum.add((rows.start + i) * keys + col);
                                let before = load_some(simd, sum, keys - col);
                                store_some(simd, sum, simd.add_f32s(before, x), keys - col);
                            }
                        }
                    }
                    // The gradients of K and V from the copies of scale · Q and dO, before that of Q takes a place.
                    let products = [(ds, scaled), (p, grads)];
                    for ((across, factors), sums) in products.into_iter().zip(&mut sums) {
                        let (shape, strides) = ([keys, count, head_dim], [1, wide]);
                        let factors = Rows { first: factors, stride: width };
                        let sums = sums.as_mut_ptr();
                        multiply::<S, true>(simd, shape, across, strides, factors, sums, width);
                    }
                    let shape = [count, keys, head_dim];
                    multiply::<S, false>(simd, shape, ds, [wide, 1], keys_of, scaled, width);
                    let target = targets[0].at(first(queries) + rows.start * channels);
                    let scaled = Rows { first: scaled, stride: width };
                    scaled.copy([count, head_dim], scale, target, channels);
                }
                for (sums, target) in sums.iter().zip(&targets[1..]) {
                    let sums = Rows { first: sums.as_ptr(), stride: width };
                    sums.copy(shape, 1.0, target.at(first(keys)), channels);
                }
            }
        }
    }
}
