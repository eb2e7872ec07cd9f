//! The two passes of a resize: weighted sums of levels in fixed point, along rows and along columns.
//!
//! Both are compiled for the widest vectors of the processor; on whole numbers that changes no bit.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Fractional bits of a weight, as in Pillow: the rest of 32 holds a level, its sign and overshoot.
pub(super) const WEIGHT_BITS: u32 = 22;

/// The source pixels that one output pixel looks at, along one axis; the weights sum to one.
pub(super) struct Kernel {
    pub start: usize,
    pub weights: Vec<i32>,
}

impl Kernel {
    fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

/// From the first to the last source pixel that any of `kernels` looks at.
pub(super) fn touched(kernels: &[Kernel]) -> Range<usize> {
    let start = kernels.iter().map(|kernel| kernel.start).min().unwrap_or(0);
    let end = kernels.iter().map(Kernel::end).max().unwrap_or(0);
    start..end
}

/// Resizes `rows` of pixels `[height, width, 3]` to `[rows, columns, 3]`.
pub(super) fn resize_rows(
    pixels: &[u8],
    width: usize,
    rows: Range<usize>,
    columns: &[Kernel],
) -> Vec<u8> {
    let mut output = vec![0; rows.len() * columns.len() * 3];
    let rows = &pixels[rows.start * width * 3..rows.end * width * 3];
    Arch::new().dispatch(RowPass { rows, width, columns, output: &mut output });
    output
}

/// Resizes `columns` of pixels `[height, width, 3]` to `[rows, columns, 3]`.
pub(super) fn resize_columns(
    pixels: &[u8],
    width: usize,
    columns: Range<usize>,
    rows: &[Kernel],
) -> Vec<u8> {
    let mut output = vec![0; rows.len() * columns.len() * 3];
    Arch::new().dispatch(ColumnPass { pixels, width, columns, rows, output: &mut output });
    output
}

struct RowPass<'a> {
    rows: &'a [u8],
    width: usize,
    columns: &'a [Kernel],
    output: &'a mut [u8],
}

impl WithSimd for RowPass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { rows, width, columns, output } = self;
        let touched = touched(columns);
        let row_bytes = columns.len() * 3;
        let mut groups = vec![[0; LANES]; touched.len()];
        for (rows, output) in rows.chunks(ROWS * width * 3).zip(output.chunks_mut(ROWS * row_bytes))
        {
            for (row, lane) in rows.chunks_exact(width * 3).zip((0..).step_by(4)) {
                let row = row[3 * touched.start..3 * touched.end].chunks_exact(3);
                for (group, pixel) in groups.iter_mut().zip(row) {
                    group[lane..lane + 3].copy_from_slice(pixel);
                }
            }
            for (column, kernel) in columns.iter().enumerate() {
                let groups = &groups[kernel.start - touched.start..];
                let levels = weighted_sums(groups, &kernel.weights);
                for (row, levels) in output.chunks_exact_mut(row_bytes).zip(levels.chunks_exact(4))
                {
                    row[3 * column..3 * column + 3].copy_from_slice(&levels[..3]);
                }
            }
        }
    }
}

/// Rows that are resized at once.
const ROWS: usize = 2;

/// A pixel of each of them, in four lanes each: vectors have no use for three.
const LANES: usize = 4 * ROWS;

#[inline(always)]
fn weighted_sums(groups: &[[u8; LANES]], weights: &[i32]) -> [u8; LANES] {
    let mut sums = [HALF; LANES];
    for (group, weight) in groups.iter().zip(weights) {
        for lane in 0..LANES {
            sums[lane] += weight * i32::from(group[lane]);
        }
    }
    let mut levels = [0; LANES];
    for lane in 0..LANES {
        levels[lane] = to_level(sums[lane]);
    }
    levels
}

struct ColumnPass<'a> {
    pixels: &'a [u8],
    width: usize,
    columns: Range<usize>,
    rows: &'a [Kernel],
    output: &'a mut [u8],
}

impl WithSimd for ColumnPass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pixels, width, columns, rows, output } = self;
        let row_bytes = columns.len() * 3;
        let mut sums = vec![0; row_bytes];
        for (kernel, output) in rows.iter().zip(output.chunks_exact_mut(row_bytes)) {
            sums.fill(HALF);
            for (row, weight) in (kernel.start..).zip(&kernel.weights) {
                let start = (row * width + columns.start) * 3;
                for (sum, level) in sums.iter_mut().zip(&pixels[start..start + row_bytes]) {
                    *sum += weight * i32::from(*level);
                }
            }
            for (level, sum) in output.iter_mut().zip(&sums) {
                *level = to_level(*sum);
            }
        }
    }
}

/// Half a level, so that the shift in [`to_level`] rounds.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

#[inline(always)]
fn to_level(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}
