//! Softmax of logits that lie in quads of keys (see `quads.rs`).

#![allow(unsafe_code, reason = "logits are replaced through pointers")]

use pulp::cast;

use crate::math;
use crate::simd::{Simd, load, store};

/// Logits further than this below the largest get no weight: e^-87 is the smallest power that is
/// not denormal.
const LOWEST: f32 = -87.0;

/// Replaces each logit x of a vector of queries by e^(x - largest). Returns the sums of these and
/// the largest logits; all four lanes of a query hold the same.
///
/// # Safety
/// There are `quads` vectors at `logits`, `stride` numbers apart.
#[inline(always)]
pub(super) unsafe fn exponentials<S: Simd>(
    simd: S,
    logits: *mut f32,
    quads: usize,
    stride: usize,
) -> (S::f32s, S::f32s) {
    // SAFETY: the caller's.
    let at = |quad: usize| unsafe { logits.add(quad * stride) };
    let lowest = simd.splat_f32s(f32::NEG_INFINITY);
    let (mut max0, mut max1) = (lowest, lowest);
    for quad in (1..quads).step_by(2) {
        // SAFETY: as above.
        unsafe {
            max0 = simd.max_f32s(max0, load(simd, at(quad - 1)));
            max1 = simd.max_f32s(max1, load(simd, at(quad)));
        }
    }
    if quads % 2 == 1 {
        // SAFETY: as above.
        max0 = simd.max_f32s(max0, unsafe { load(simd, at(quads - 1)) });
    }
    let max = of_quad(simd, simd.max_f32s(max0, max1), |a, b| simd.max_f32s(a, b));
    let mut sum = simd.splat_f32s(0.0);
    for quad in 0..quads {
        // SAFETY: as above.
        unsafe {
            let x = weight(simd, simd.sub_f32s(load(simd, at(quad)), max));
            store(simd, at(quad), x);
            sum = simd.add_f32s(sum, x);
        }
    }
    (of_quad(simd, sum, |a, b| simd.add_f32s(a, b)), max)
}

/// e^x for x ≤ 0
#[inline(always)]
pub(super) fn weight<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let counts = simd.greater_than_f32s(x, simd.splat_f32s(LOWEST));
    simd.select_f32s(counts, math::exp_of_small(simd, x), simd.splat_f32s(0.0))
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
