//! Products with transposed maps (Q Kᵀ, and dO Vᵀ in the backward pass) in blocks of queries × 4 keys.
//!
//! Tokens are packed in quads: `[head_dim, 4]`, four tokens side by side. A vector of sums holds
//! a quad of keys for a few queries (4 in 16 lanes, 2 in 8): a multiply-add takes the quad of
//! keys, repeated over the lanes, and the queries, each number of which stands four times. A
//! region is a whole number of quads wherever it is routed to, and so Kᵍ need not be put together:
//! tiles follow pointers to quads.

#![allow(unsafe_code, reason = "quads are pointers")]

use std::ops::Range;

use pulp::{c64, cast};

use super::layout::parts;
use crate::simd::{Simd, load, mul_add, store};

/// Tokens that lie side by side.
pub(crate) const QUAD: usize = 4;

/// Queries in a vector of sums.
pub(crate) const fn queries<S: Simd>() -> usize {
    S::F32_LANES / QUAD
}

/// Most vectors of queries in a tile.
const MAX_VECTORS: usize = 3;

/// Most queries in a tile.
pub(crate) const fn max_queries<S: Simd>() -> usize {
    MAX_VECTORS * queries::<S>()
}

/// Numbers of a packed region of one head.
pub(crate) fn region_len(tokens: usize, head_dim: usize) -> usize {
    tokens.next_multiple_of(QUAD) * head_dim
}

/// Query tokens of a region, in nearly equal tiles of whole vectors.
pub(crate) fn tiles<S: Simd>(tokens: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let (start, end) = (tokens.start, tokens.end);
    let vectors = parts(tokens.len().div_ceil(queries::<S>()), MAX_VECTORS);
    vectors.map(move |part| {
        start + part.start * queries::<S>()..end.min(start + part.end * queries::<S>())
    })
}

/// Pointers to the quads of packed regions, one region after the other.
pub(crate) fn of_regions(
    regions: impl Iterator<Item = *const f32>,
    tokens: usize,
    head_dim: usize,
    target: &mut Vec<*const f32>,
) {
    target.clear();
    for region in regions {
        let quads = 0..tokens.div_ceil(QUAD);
        target.extend(quads.map(|quad| region.wrapping_add(quad * QUAD * head_dim)));
    }
}

/// Packs factor · x for the tokens x at `source + offset`, `[tokens / 4, head_dim, 4]`. The last
/// quad is filled with copies of the last token.
///
/// # Safety
/// `head_dim` numbers can be read at each offset, and whole quads be written to `target`.
#[inline(always)]
pub(crate) unsafe fn pack(
    source: *const f32,
    offsets: &[usize],
    head_dim: usize,
    factor: f32,
    target: *mut f32,
) {
    for (quad, offsets) in offsets.chunks(QUAD).enumerate() {
        let rows: [*const f32; QUAD] =
            std::array::from_fn(|i| source.wrapping_add(offsets[i.min(offsets.len() - 1)]));
        let target = target.wrapping_add(quad * QUAD * head_dim);
        // SAFETY: the caller's.
        unsafe {
            let mut d = 0;
            while d + QUAD <= head_dim {
                let columns = transpose(rows.map(|row| row.add(d)), factor);
                target.add(QUAD * d).cast::<[[f32; QUAD]; QUAD]>().write_unaligned(columns);
                d += QUAD;
            }
            for d in d..head_dim {
                let column = rows.map(|row| factor * *row.add(d));
                target.add(QUAD * d).cast::<[f32; QUAD]>().write_unaligned(column);
            }
        }
    }
}

/// The columns of four numbers of each row, times `factor`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose(rows: [*const f32; QUAD], factor: f32) -> [[f32; QUAD]; QUAD] {
    use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_mul_ps, _mm_set1_ps};
    // SAFETY: the caller's; every 64-bit processor has these instructions.
    unsafe {
        let [mut a, mut b, mut c, mut d] =
            rows.map(|row| _mm_mul_ps(_mm_loadu_ps(row), _mm_set1_ps(factor)));
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        std::mem::transmute([a, b, c, d])
    }
}

/// The columns of four numbers of each row, times `factor`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn transpose(rows: [*const f32; QUAD], factor: f32) -> [[f32; QUAD]; QUAD] {
    // SAFETY: the caller's.
    let rows = rows.map(|row| unsafe { row.cast::<[f32; QUAD]>().read_unaligned() });
    std::array::from_fn(|i| std::array::from_fn(|row| factor * rows[row][i]))
}

/// A quad, repeated over the lanes.
#[inline(always)]
unsafe fn splat_quad<S: Simd>(simd: S, source: *const f32) -> S::f32s {
    // SAFETY: the caller's.
    let quad = unsafe { source.cast::<[f32; QUAD]>().read_unaligned() };
    cast(simd.splat_c64s(cast::<[f32; QUAD], c64>(quad)))
}

/// Of a repeated quad, each number from `first` on four times.
#[inline(always)]
fn spread<S: Simd>(simd: S, x: S::f32s, first: usize) -> S::f32s {
    let mut numbers = [0.0; 4 * QUAD];
    // SAFETY: no vector has more lanes.
    unsafe {
        store(simd, numbers.as_mut_ptr(), x);
        let number = |lane: usize| {
            numbers[(lane / QUAD * QUAD + (first + lane / QUAD) % QUAD) % S::F32_LANES]
        };
        let spread: [f32; 4 * QUAD] = std::array::from_fn(number);
        load(simd, spread.as_ptr())
    }
}

/// Σ_d queries · quads, each sum starting from its key's `bias`. The vectors of sums of a quad lie
/// side by side, those of two quads `stride` numbers apart. Returns the largest sums of each
/// vector, lane by lane.
///
/// # Safety
/// `queries` and all quads are written by [`pack`]; `bias` has as many quads, and `target`
/// takes them all.
#[allow(clippy::too_many_arguments, reason = "a tile has that many parts")]
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd>(
    simd: S,
    vectors: usize,
    head_dim: usize,
    queries: *const f32,
    quads: &[*const f32],
    bias: Option<*const f32>,
    target: *mut f32,
    stride: usize,
) -> [S::f32s; MAX_VECTORS] {
    // SAFETY: the caller's.
    unsafe {
        match vectors {
            1 => multiply_vectors::<S, 1>(simd, head_dim, queries, quads, bias, target, stride),
            2 => multiply_vectors::<S, 2>(simd, head_dim, queries, quads, bias, target, stride),
            3 => multiply_vectors::<S, 3>(simd, head_dim, queries, quads, bias, target, stride),
            _ => unreachable!("a tile of {vectors} vectors"),
        }
    }
}

#[inline(always)]
unsafe fn multiply_vectors<S: Simd, const VECTORS: usize>(
    simd: S,
    head_dim: usize,
    queries: *const f32,
    quads: &[*const f32],
    bias: Option<*const f32>,
    target: *mut f32,
    stride: usize,
) -> [S::f32s; MAX_VECTORS] {
    let lowest = simd.splat_f32s(f32::NEG_INFINITY);
    let (mut max0, mut max1, mut max2) = (lowest, lowest, lowest);
    let start = |quad: usize| match bias {
        // SAFETY: the caller's.
        Some(bias) => unsafe { splat_quad(simd, bias.add(QUAD * quad)) },
        None => simd.splat_f32s(0.0),
    };
    let per_vector = self::queries::<S>();
    let mut first = 0;
    // The compiler keeps sums in registers only if each has a name: a macro writes them out.
    macro_rules! tile {
        ($count:literal: $($j:tt $key:ident)*) => {
            while quads.len() - first >= $count {
                let mut sums0 = ($(start(first + $j),)*);
                let mut sums1 = sums0;
                let mut sums2 = sums0;
                $(let $key = quads[first + $j];)*
                for d in 0..head_dim {
                    // SAFETY: the caller's.
                    unsafe {
                        let query = |v: usize| {
                            let quad = queries.add((v * per_vector / QUAD * head_dim + d) * QUAD);
                            spread(simd, splat_quad(simd, quad), v * per_vector % QUAD)
                        };
                        let x0 = query(0);
                        let x1 = if VECTORS > 1 { query(1) } else { x0 };
                        let x2 = if VECTORS > 2 { query(2) } else { x0 };
                        $(
                            let key = splat_quad(simd, $key.add(QUAD * d));
                            sums0.$j = mul_add(simd, key, x0, sums0.$j);
                            if VECTORS > 1 {
                                sums1.$j = mul_add(simd, key, x1, sums1.$j);
                            }
                            if VECTORS > 2 {
                                sums2.$j = mul_add(simd, key, x2, sums2.$j);
                            }
                        )*
                    }
                }
                $(
                    // SAFETY: the caller's.
                    unsafe {
                        let target = target.add((first + $j) * stride);
                        store(simd, target, sums0.$j);
                        max0 = simd.max_f32s(max0, sums0.$j);
                        if VECTORS > 1 {
                            store(simd, target.add(S::F32_LANES), sums1.$j);
                            max1 = simd.max_f32s(max1, sums1.$j);
                        }
                        if VECTORS > 2 {
                            store(simd, target.add(2 * S::F32_LANES), sums2.$j);
                            max2 = simd.max_f32s(max2, sums2.$j);
                        }
                    }
                )*
                first += $count;
            }
        };
    }
    if S::REGISTER_COUNT >= 32 {
        tile!(8: 0 k0 1 k1 2 k2 3 k3 4 k4 5 k5 6 k6 7 k7);
    }
    tile!(4: 0 k0 1 k1 2 k2 3 k3);
    tile!(2: 0 k0 1 k1);
    tile!(1: 0 k0);
    [max0, max1, max2]
}
