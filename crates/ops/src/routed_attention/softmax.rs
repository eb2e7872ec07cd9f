//! Softmax of logits that lie in quads of keys (see `quads.rs`), to the base of 2: queries are packed
//! with a factor of log₂ e, which saves a multiplication a weight.

#![allow(unsafe_code, reason = "logits are replaced through pointers")]

use pulp::cast;

use super::quads::{QUAD, queries};
use crate::math;
use crate::simd::{Simd, load, store};

/// Replaces each logit x of a vector of queries by 2^(x - largest), where `max` has the largest of
/// each lane. Returns the sums of these and the largest logits; all four lanes of a query hold
/// the same.
///
/// # Safety
/// There are `quads` vectors at `logits`, `stride` numbers apart.
#[inline(always)]
pub(super) unsafe fn exponentials<S: Simd>(
    simd: S,
    logits: *mut f32,
    quads: usize,
    stride: usize,
    max: S::f32s,
) -> (S::f32s, S::f32s) {
    let max = of_quad(simd, max, |a, b| simd.max_f32s(a, b));
    let mut sum = simd.splat_f32s(0.0);
    for quad in 0..quads {
        // SAFETY: the caller's.
        unsafe {
            let logit = logits.add(quad * stride);
            let x = math::exp2(simd, simd.sub_f32s(load(simd, logit), max));
            store(simd, logit, x);
            sum = simd.add_f32s(sum, x);
        }
    }
    (of_quad(simd, sum, |a, b| simd.add_f32s(a, b)), max)
}

/// Writes log₂ Σ 2^x of at most `count` queries of a vector.
///
/// # Safety
/// As many numbers can be written to `target`.
#[inline(always)]
pub(super) unsafe fn write_log_sums<S: Simd>(
    simd: S,
    sum: S::f32s,
    max: S::f32s,
    target: *mut f32,
    count: usize,
) {
    let (mut sums, mut maxima) = ([0.0; 16], [0.0; 16]);
    simd.partial_store_f32s(&mut sums[..S::F32_LANES], sum);
    simd.partial_store_f32s(&mut maxima[..S::F32_LANES], max);
    for i in 0..count.min(queries::<S>()) {
        // SAFETY: the caller's.
        unsafe { target.add(i).write(maxima[QUAD * i] + sums[QUAD * i].log2()) };
    }
}

/// Combines the four lanes of each quad.
#[inline(always)]
pub(super) fn of_quad<S: Simd>(
    simd: S,
    x: S::f32s,
    combine: impl Fn(S::f32s, S::f32s) -> S::f32s,
) -> S::f32s {
    let x = combine(x, cast(simd.swap_re_im_c32s(cast(x))));
    combine(x, cast(simd.swap_re_im_c64s(cast(x))))
}
