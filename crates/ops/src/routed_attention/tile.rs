//! One tile of a product: a few rows of A times two vectors of B side by side, sums in registers.
//!
//! The products of weights with values, and those of the backward pass, are cut into such tiles.
//! They differ in where the numbers of A and the rows of B lie, in what the sums start from
//! and in where they go: four closures, inlined.

#![allow(unsafe_code, reason = "a tile is read through pointers")]

use crate::simd::{Simd, lanes, load, mul_add};

/// Most rows of a tile: with two sums a row, two vectors of B and one of A they fit the registers.
pub(crate) const fn max_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

/// Columns of a tile.
pub(crate) const fn width<S: Simd>() -> usize {
    2 * S::F32_LANES
}

/// Numbers behind a head that are read along with it where tiles read maps in place.
pub(crate) fn slack(head_dim: usize) -> usize {
    head_dim.next_multiple_of(2 * lanes()) - head_dim
}

/// `finish(i, v, start(i, v) + Σ_k a(i, k) · b(k)[v])` for each of `rows` rows and both vectors.
///
/// # Safety
/// `a(i, k)` and [`width`] numbers at `b(k)` can be read for each row i and k below `inner`.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd>(
    simd: S,
    rows: usize,
    inner: usize,
    a: impl Fn(usize, usize) -> *const f32,
    b: impl Fn(usize) -> *const f32,
    start: impl Fn(usize, usize) -> S::f32s,
    mut finish: impl FnMut(usize, usize, S::f32s),
) {
    // The compiler keeps sums in registers only if each has a name: a macro writes them out.
    macro_rules! tile {
        ($($i:literal $row:ident)*) => {{
            $(let mut $row = (start($i, 0), start($i, 1));)*
            for k in 0..inner {
                // SAFETY: the caller's.
                unsafe {
                    let b = b(k);
                    let (b0, b1) = (load(simd, b), load(simd, b.add(S::F32_LANES)));
                    $(
                        let factor = simd.splat_f32s(*a($i, k));
                        $row.0 = mul_add(simd, factor, b0, $row.0);
                        $row.1 = mul_add(simd, factor, b1, $row.1);
                    )*
                }
            }
            $(
                finish($i, 0, $row.0);
                finish($i, 1, $row.1);
            )*
        }};
    }
    match rows {
        1 => tile!(0 r0),
        2 => tile!(0 r0 1 r1),
        3 => tile!(0 r0 1 r1 2 r2),
        4 => tile!(0 r0 1 r1 2 r2 3 r3),
        5 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4),
        6 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4 5 r5),
        _ if S::REGISTER_COUNT < 32 => unreachable!("a tile of {rows} rows"),
        7 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4 5 r5 6 r6),
        8 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4 5 r5 6 r6 7 r7),
        9 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4 5 r5 6 r6 7 r7 8 r8),
        10 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4 5 r5 6 r6 7 r7 8 r8 9 r9),
        11 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4 5 r5 6 r6 7 r7 8 r8 9 r9 10 r10),
        12 => tile!(0 r0 1 r1 2 r2 3 r3 4 r4 5 r5 6 r6 7 r7 8 r8 9 r9 10 r10 11 r11),
        _ => unreachable!("a tile of {rows} rows"),
    }
}
