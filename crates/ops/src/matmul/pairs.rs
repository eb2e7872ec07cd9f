//! Pairs of bfloat16: one step of a product with two numbers of the inner dimension.
//!
//! A pair lies in 32 bits, the first number in the lower half, and travels as a float32 that nobody
//! computes with.

#![allow(unsafe_code, reason = "the instructions take pointers")]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_mask_storeu_epi32,
    _mm512_maskz_loadu_ps,
};

use pulp::cast;

use super::Block;
use super::kernel::Step;
use crate::simd::Simd;

/// Numbers that are rounded at once.
const NUMBERS: usize = 32;

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

/// Rounds `rows` rows of `inner` numbers, `[rows, inner / 2]`; an odd one is followed by a zero.
pub(super) fn round<'a>(
    a: Block,
    rows: usize,
    inner: usize,
    target: &'a mut Vec<f32>,
) -> Block<'a> {
    assert_eq!(a.col_stride, 1, "matmul: rows of pairs");
    let pairs = inner.div_ceil(2);
    target.resize(rows * pairs, 0.0);
    for (row, target) in target.chunks_exact_mut(pairs).enumerate() {
        // SAFETY: only processors with these instructions come here.
        unsafe { round_row(&a.values[row * a.row_stride..][..inner], target) };
    }
    Block { values: target, row_stride: pairs, col_stride: 1 }
}

/// Rounds to the nearest, ties to even.
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_row(row: &[f32], target: &mut [f32]) {
    assert_eq!(target.len(), row.len().div_ceil(2));
    for (row, target) in row.chunks(NUMBERS).zip(target.chunks_mut(NUMBERS / 2)) {
        let (first, second) = (row.len(), row.len().saturating_sub(NUMBERS / 2));
        let at = row.as_ptr();
        // SAFETY: the masks keep to what is there.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask(first), at);
            let high = _mm512_maskz_loadu_ps(mask(second), at.wrapping_add(NUMBERS / 2));
            let pairs: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_epi32(target.as_mut_ptr().cast(), mask(target.len()), pairs);
        }
    }
}

/// The first `count` lanes.
fn mask(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}
