//! Pairs of bfloat16: one step of a product with two numbers of the inner dimension.
//!
//! A pair lies in 32 bits, the first number in the lower half, and travels as a float32 that nobody
//! computes with. Where the two numbers lie side by side, a row is rounded as it is; where they lie in
//! two rows, as in B and in xᵀ, the rows are interleaved.

#![allow(unsafe_code, reason = "the instructions take pointers")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_epi32, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16,
};

use burn::tensor::bf16;
use pulp::cast;

use super::Block;
use super::kernel::Step;
use crate::simd::{Simd, prefetch};

/// Numbers, or pairs, of a vector.
const LANES: usize = 16;
/// Rows from those that are interleaved to those that are asked for.
const ROWS_AHEAD: usize = 16;

/// A pair of each side: sum + a₀ b₀ + a₁ b₁.
#[derive(Clone, Copy)]
pub(super) struct Pair;

impl Step for Pair {
    /// For vectors of AVX-512.
    #[inline(always)]
    fn multiply_add<S: Simd>(_: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        let [a, b, sum]: [__m512; 3] = [cast(a), cast(b), cast(sum)];
        // SAFETY: `dispatch_bf16` has asked the processor; any bits are pairs.
        unsafe {
            let [a, b]: [__m512bh; 2] = std::mem::transmute([a, b]);
            cast(_mm512_dpbf16_ps(sum, a, b))
        }
    }
}

/// Rounds `rows` rows of `inner` numbers; an odd one is followed by a zero. Pairs lie as the numbers do: a
/// row's side by side, or each row of pairs of a transposed matrix.
pub(super) fn round<'a>(
    a: Block,
    rows: usize,
    inner: usize,
    target: &'a mut Vec<f32>,
) -> Block<'a> {
    let pairs = inner.div_ceil(2);
    target.resize(rows * pairs, 0.0);
    if a.col_stride == 1 {
        for (row, target) in target.chunks_exact_mut(pairs.max(1)).enumerate() {
            // SAFETY: only processors with these instructions come here; the target has half of the row's
            // length.
            unsafe { round_row(&a.values[row * a.row_stride..][..inner], target.as_mut_ptr()) };
        }
        return Block { values: target, row_stride: pairs, col_stride: 1 };
    }
    assert_eq!(a.row_stride, 1, "matmul: rows or columns side by side");
    for (pair, target) in target.chunks_exact_mut(rows).enumerate() {
        let [first, second] = two_rows(a.values, a.col_stride, pair, [inner, rows]);
        // SAFETY: as above; the target has the length of the rows.
        unsafe { interleave(first, second, target.as_mut_ptr()) };
    }
    Block { values: target, row_stride: 1, col_stride: rows }
}

/// A panel of B: `[inner / 2, width, 2]`, of which `columns` are written.
pub(super) fn pack(b: Block, inner: usize, columns: usize, panel: &mut [bf16]) {
    let pairs = inner.div_ceil(2);
    let width = panel.len() / pairs.max(1); // numbers of a row of pairs
    assert!(2 * columns <= width, "matmul: columns of a panel");
    if b.col_stride == 1 {
        for (pair, target) in panel.chunks_exact_mut(width).enumerate() {
            let [first, second] = two_rows(b.values, b.row_stride, pair, [inner, columns]);
            // SAFETY: only processors with these instructions come here; the target has two numbers
            // for each column.
            unsafe { interleave(first, second, target.as_mut_ptr().cast()) };
        }
        return;
    }
    assert_eq!(b.row_stride, 1, "matmul: rows or columns side by side");
    let mut column = vec![bf16::ZERO; 2 * pairs];
    for j in 0..columns {
        let values = &b.values[j * b.col_stride..][..inner];
        // SAFETY: as above; the column has room for all pairs.
        unsafe { round_row(values, column.as_mut_ptr().cast()) };
        for (target, pair) in panel.chunks_exact_mut(width).zip(column.as_chunks::<2>().0) {
            target[2 * j..2 * j + 2].copy_from_slice(pair);
        }
    }
}

/// The two rows of a pair, of `[rows, columns]`; behind an odd number of rows comes an empty one. Asks for later
/// rows: a part of each, far from the next, is a pattern that no processor foresees.
fn two_rows(
    values: &[f32],
    stride: usize,
    pair: usize,
    [rows, columns]: [usize; 2],
) -> [&[f32]; 2] {
    [2 * pair, 2 * pair + 1].map(|row| {
        prefetch(values.as_ptr().wrapping_add((row + ROWS_AHEAD) * stride), columns);
        match row < rows {
            true => &values[row * stride..][..columns],
            false => &[],
        }
    })
}

/// Rounds neighbours to the nearest, ties to even.
///
/// # Safety
/// Half as many pairs, rounded up, can be written to the target.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn round_row(row: &[f32], target: *mut f32) {
    for start in (0..row.len()).step_by(2 * LANES) {
        let (low, high) = (part(row, start), part(row, start + LANES));
        let pairs = (row.len() - start).div_ceil(2);
        // SAFETY: the caller's.
        unsafe { store(target.add(start / 2), two_vectors(low, high), pairs) };
    }
}

/// Rounds the pairs (first[j], second[j]); a shorter `second` goes on with zeros.
///
/// # Safety
/// As many pairs as `first` is long can be written to the target.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn interleave(first: &[f32], second: &[f32], target: *mut f32) {
    /// 0, 16, 1, 17 …
    const ORDER: [u16; 2 * LANES] = {
        let mut order = [0; 2 * LANES];
        let mut i = 0;
        while i < 2 * LANES {
            order[i] = (i / 2 + i % 2 * LANES) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: the order fills a vector; the caller's.
    unsafe {
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        for start in (0..first.len()).step_by(LANES) {
            let pairs = two_vectors(part(first, start), part(second, start));
            let pairs = _mm512_permutexvar_epi16(order, pairs);
            store(target.add(start), pairs, first.len() - start);
        }
    }
}

/// The vector from `start` on, zeros behind the end.
#[target_feature(enable = "avx512f")]
fn part(values: &[f32], start: usize) -> __m512 {
    let count = values.len().saturating_sub(start);
    // SAFETY: the mask keeps to what is there.
    unsafe { _mm512_maskz_loadu_ps(mask(count), values.as_ptr().wrapping_add(start)) }
}

/// 16 numbers, and 16 more behind them.
#[target_feature(enable = "avx512f,avx512bf16")]
fn two_vectors(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 512 bits.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// # Safety
/// `count` pairs, or a vector of them if that is less, can be written to the target.
#[target_feature(enable = "avx512f")]
unsafe fn store(target: *mut f32, pairs: __m512i, count: usize) {
    // SAFETY: the caller's; the mask keeps to the count.
    unsafe { _mm512_mask_storeu_epi32(target.cast(), mask(count), pairs) };
}

/// The first `count` lanes.
fn mask(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { (1 << count) - 1 }
}
