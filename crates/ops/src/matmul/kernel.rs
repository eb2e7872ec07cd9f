//! One tile of a product: a few rows of A times one panel of B, sums in registers.
//!
//! For each step along the inner dimension a vector of the panel is loaded and each row's
//! number is broadcast, multiplied and added: `MR · NV` sums stay in registers all the way, so
//! that two loads of B and `MR` of A feed `2 · MR` multiply-adds. The epilogue works on the sums
//! before they are written.

#![allow(unsafe_code, reason = "a tile is read and written through pointers")]

use super::Epilogue;
use crate::math;
use crate::simd::{Simd, load, load_some, mul_add, prefetch, store_some};

/// Numbers of a cache line.
pub(super) const LINE: usize = 16;

/// What is multiplied in a step of the inner dimension: 32 bits of a row of A, and 32 of each
/// column of B.
pub(super) trait Step: Copy {
    fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s;
}

/// Numbers of float32.
#[derive(Clone, Copy)]
pub(super) struct Single;

impl Step for Single {
    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        mul_add(simd, a, b, sum)
    }
}

/// Most rows of a tile: all registers but those for B and one for A.
pub(super) const fn max_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 14 } else { 6 }
}

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// First number of the first row of A.
    pub a: *const f32,
    /// Distance of two rows of A.
    pub row_stride: usize,
    /// Distance of two numbers in a row of A.
    pub col_stride: usize,
    /// The panel of B, `[steps, panel_width]`.
    pub b: *const f32,
    /// Numbers, or pairs, in a row of A.
    pub steps: usize,
    /// First number of C.
    pub c: *mut f32,
    /// Distance of two rows of C.
    pub c_stride: usize,
    /// Columns of C to write, at most a panel.
    pub columns: usize,
    /// Row and column of the tile in C.
    pub origin: [usize; 2],
    /// How far behind the panel's numbers those lie that are needed soon: every second line of
    /// as many numbers as the panel has is asked for.
    pub ahead: usize,
}

/// Computes `rows` rows of the tile.
///
/// # Safety
/// All of the rows of A, the panel and the tile of C can be accessed as [`Tile`] says, and
/// nobody else accesses the tile of C.
#[inline(always)]
pub(super) unsafe fn compute<S: Simd, T: Step>(
    simd: S,
    _: T,
    rows: usize,
    tile: Tile,
    epilogue: &Epilogue,
) {
    // The compiler keeps sums in registers only if each has a name: a macro writes them out.
    let bias = bias(simd, tile, epilogue);
    macro_rules! products {
        ($($row:ident)*) => {{
            $(let mut $row = bias;)*
            let (mut a, mut b) = (tile.a, tile.b);
            for _ in 0..tile.steps {
                // SAFETY: the steps stay within the rows and the panel.
                unsafe {
                    prefetch(b.wrapping_add(tile.ahead), LINE);
                    let b0 = load(simd, b);
                    let b1 = load(simd, b.add(S::F32_LANES));
                    let mut x = a;
                    $(
                        let factor = simd.splat_f32s(*x);
                        $row.0 = T::multiply_add(simd, factor, b0, $row.0);
                        $row.1 = T::multiply_add(simd, factor, b1, $row.1);
                        x = x.wrapping_add(tile.row_stride);
                    )*
                    let _ = x;
                }
                a = a.wrapping_add(tile.col_stride);
                b = b.wrapping_add(2 * S::F32_LANES);
            }
            let mut row = 0;
            $(
                // SAFETY: the caller's.
                unsafe { finish(simd, tile, row, [$row.0, $row.1], epilogue) };
                row += 1;
            )*
            let _ = row;
        }};
    }
    macro_rules! with_rows {
        ($count:literal: $($row:ident)*) => { if rows == $count { return products!($($row)*); } };
    }
    with_rows!(1: r0);
    with_rows!(2: r0 r1);
    with_rows!(3: r0 r1 r2);
    with_rows!(4: r0 r1 r2 r3);
    with_rows!(5: r0 r1 r2 r3 r4);
    with_rows!(6: r0 r1 r2 r3 r4 r5);
    if S::REGISTER_COUNT >= 32 {
        with_rows!(7: r0 r1 r2 r3 r4 r5 r6);
        with_rows!(8: r0 r1 r2 r3 r4 r5 r6 r7);
        with_rows!(9: r0 r1 r2 r3 r4 r5 r6 r7 r8);
        with_rows!(10: r0 r1 r2 r3 r4 r5 r6 r7 r8 r9);
        with_rows!(11: r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10);
        with_rows!(12: r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11);
        with_rows!(13: r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12);
        with_rows!(14: r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 r13);
    }
    unreachable!("a tile of {rows} rows");
}

/// The numbers of the bias for the columns of the tile.
#[inline(always)]
fn bias<S: Simd>(simd: S, tile: Tile, epilogue: &Epilogue) -> (S::f32s, S::f32s) {
    let Some(bias) = epilogue.bias else { return (simd.splat_f32s(0.0), simd.splat_f32s(0.0)) };
    let first = bias.as_ptr().wrapping_add(tile.origin[1]);
    let second = first.wrapping_add(S::F32_LANES);
    let rest = tile.columns.saturating_sub(S::F32_LANES);
    // SAFETY: there is a number for each column of C.
    unsafe { (load_some(simd, first, tile.columns), load_some(simd, second, rest)) }
}

/// Activation and residual of one row of a tile, then to memory.
#[inline(always)]
unsafe fn finish<S: Simd>(
    simd: S,
    tile: Tile,
    row: usize,
    sums: [S::f32s; 2],
    epilogue: &Epilogue,
) {
    let [first_row, column] = tile.origin;
    for (v, sum) in sums.into_iter().enumerate() {
        let offset = v * S::F32_LANES;
        if offset >= tile.columns {
            break;
        }
        let count = tile.columns - offset;
        let mut x = sum;
        if epilogue.gelu {
            x = math::gelu(simd, x);
        }
        // SAFETY: the caller's; of the last vector only the columns of C are accessed.
        unsafe {
            if let Some(residual) = epilogue.residual {
                let start = (first_row + row) * tile.c_stride + column + offset;
                x = simd.add_f32s(x, load_some(simd, residual.as_ptr().add(start), count));
            }
            let target = tile.c.add(row * tile.c_stride + offset);
            if epilogue.accumulate {
                x = simd.add_f32s(x, load_some(simd, target, count));
            }
            store_some(simd, target, x, count);
        }
    }
}
