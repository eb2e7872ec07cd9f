//! C = epilogue(A · B) on the CPU: the product under linear layers and convolutions.
//!
//! B is cut into panels as wide as a tile of C, each contiguous, so that a tile reads it
//! from front to back. A is read where it is, or written by its [`Rows`] into a block that fits the
//! second cache: normalised rows, or the patches of a convolution. Where rows are too long for that, parts of
//! them are multiplied one after the other. They are cut by their length alone, so that a number of C is one
//! sum in one order, whatever the number of threads.

#![allow(unsafe_code, reason = "tasks write their tiles of one output")]

mod kernel;
#[cfg(target_arch = "x86_64")]
mod pairs;

use std::cell::Cell;
use std::ops::Range;

use burn::tensor::bf16;
use rayon::prelude::*;

use self::kernel::{Single, Step};
use crate::parallel::{self, Target, part};
use crate::simd::{Simd, WithSimd, dispatch, lanes};
#[cfg(target_arch = "x86_64")]
use crate::simd::{dispatch_bf16, has_bf16};

/// Vectors side by side in a tile.
const PANEL_VECTORS: usize = 2;
/// Numbers of a block of A: half of a second cache of 512 KB.
const BLOCK: usize = 1 << 16;
/// Multiply-adds of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 18;
/// Rows of two high tiles.
const TALL: usize = 28;
/// Steps of the inner dimension beyond which a block would have less than two high tiles.
const DEEP: usize = BLOCK / TALL;
/// Rows of a block of such rows: each block reads all of B, which no cache may hold.
const DEEP_ROWS: usize = 4 * TALL;
/// Steps that are then multiplied in one go, so that the second cache holds that part of a block.
const PART: usize = 1024;
#[cfg(not(target_arch = "x86_64"))]
const WITHOUT_BF16: &str = "`Precision::check` knows no such processor";

/// B, `[inner, columns]`, as panels; the last is padded with zeros.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub values: Numbers<'a>,
    pub inner: usize,
    pub columns: usize,
}

/// The numbers of panels.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    /// `[columns / width, inner, width]`
    F32(&'a [f32]),
    /// `[columns / width, inner / 2, width, 2]`, from [`pack_pairs`].
    Bf16(&'a [bf16]),
}

/// What happens to a number of C before it is written: bias, then activation, then residual.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// `[columns]`
    pub bias: Option<&'a [f32]>,
    pub gelu: bool,
    /// Like C.
    pub residual: Option<&'a [f32]>,
    /// Whether the former number of C is added.
    pub accumulate: bool,
}

impl Epilogue<'_> {
    /// What happens to the sums of one of several parts of the inner dimension.
    fn of_part(self, part: usize, parts: usize) -> Self {
        Self {
            bias: self.bias.filter(|_| part == 0),
            residual: self.residual.filter(|_| part + 1 == parts),
            accumulate: self.accumulate || part > 0,
            ..self
        }
    }
}

/// A, row by row.
pub(crate) trait Rows: Sync {
    /// These rows, in place or written to `scratch`.
    fn block<'a>(&'a self, rows: Range<usize>, scratch: &'a mut Vec<f32>) -> Block<'a>;
}

/// Some rows in memory.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub values: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// A matrix that is read in place.
pub(crate) struct Matrix<'a>(pub Block<'a>);

impl Rows for Matrix<'_> {
    fn block<'a>(&'a self, rows: Range<usize>, _: &'a mut Vec<f32>) -> Block<'a> {
        let values = self.0.values.get(rows.start * self.0.row_stride..).unwrap_or_default();
        Block { values, ..self.0 }
    }
}

/// Columns of a panel.
pub(crate) fn panel_width() -> usize {
    PANEL_VECTORS * lanes()
}

/// Panels of the matrix whose number at (i, j) is `values[i * row_stride + j * col_stride]`.
pub(crate) fn pack(b: Block, inner: usize, columns: usize) -> Vec<f32> {
    let width = panel_width();
    pack_panels(0.0, inner * width, b, columns, |b, count, target| {
        if b.col_stride == 1 {
            for (i, row) in target.chunks_exact_mut(width).enumerate() {
                row[..count].copy_from_slice(&b.values[i * b.row_stride..][..count]);
            }
        } else {
            for j in 0..count {
                let column = &b.values[j * b.col_stride..];
                for i in 0..inner {
                    target[i * width + j] = column[i * b.row_stride];
                }
            }
        }
    })
}

/// The same panels in pairs of bfloat16; an odd inner dimension ends with a zero.
///
/// # Panics
/// If [`Precision::check`](crate::Precision::check) gives an error.
#[cfg(target_arch = "x86_64")]
pub(crate) fn pack_pairs(b: Block, inner: usize, columns: usize) -> Vec<bf16> {
    assert!(has_bf16(), "matmul: no products of bfloat16");
    let width = panel_width();
    let len = inner.next_multiple_of(2) * width;
    pack_panels(bf16::ZERO, len, b, columns, |b, count, target| {
        pairs::pack(b, inner, count, target);
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn pack_pairs(_: Block, _: usize, _: usize) -> Vec<bf16> {
    unreachable!("{WITHOUT_BF16}")
}

/// Panels of `len` numbers; `write` gets the part of B from a panel's first column on, how many columns of it
/// there are, and the panel.
fn pack_panels<T: Copy + Send>(
    zero: T,
    len: usize,
    b: Block,
    columns: usize,
    write: impl Fn(Block, usize, &mut [T]) + Sync,
) -> Vec<T> {
    let width = panel_width();
    let mut panels = vec![zero; columns.div_ceil(width) * len];
    panels.par_chunks_mut(len.max(1)).enumerate().for_each(|(panel, target)| {
        let first = panel * width;
        let b = Block { values: &b.values[first * b.col_stride..], ..b };
        write(b, width.min(columns - first), target);
    });
    panels
}

/// C = epilogue(A · B); C is `[rows, columns]`.
pub(crate) fn multiply(a: &impl Rows, b: Panels, rows: usize, epilogue: &Epilogue) -> Vec<f32> {
    let mut c: Vec<f32> = Vec::with_capacity(rows * b.columns);
    run(a, b, rows, epilogue, c.as_mut_ptr());
    // SAFETY: the tiles cover C.
    unsafe { c.set_len(rows * b.columns) };
    c
}

/// C += A · B
pub(crate) fn multiply_add(a: &impl Rows, b: Panels, rows: usize, c: &mut [f32]) {
    assert_eq!(c.len(), rows * b.columns, "matmul: size of C");
    run(a, b, rows, &Epilogue { accumulate: true, ..Epilogue::default() }, c.as_mut_ptr());
}

fn run(a: &impl Rows, b: Panels, rows: usize, epilogue: &Epilogue, c: *mut f32) {
    if rows == 0 || b.columns == 0 {
        return;
    }
    let width = panel_width();
    let panels = b.columns.div_ceil(width);
    let (len, expected) = match b.values {
        Numbers::F32(values) => (values.len(), panels * b.inner * width),
        Numbers::Bf16(pairs) => (pairs.len(), panels * b.inner.next_multiple_of(2) * width),
    };
    assert!(len >= expected, "matmul: panels too short");
    assert!(epilogue.bias.is_none_or(|x| x.len() >= b.columns), "matmul: bias too short");
    assert!(epilogue.residual.is_none_or(|x| x.len() >= rows * b.columns), "matmul: residual");
    let threads = rayon::current_num_threads();
    let plan = Plan::new(rows, panels, b.inner * width, threads);
    let target = Target::new(c);
    let run = |task: usize| {
        let (block, group) = (task / plan.groups, task % plan.groups);
        let rows = part(rows, plan.blocks, block);
        let panels = part(panels, plan.groups, group);
        let [mut scratch, mut pairs] = SCRATCH.take();
        let a = a.block(rows.clone(), &mut scratch);
        let part = Part { rows, panels, columns: b.columns, epilogue, c: target.at(0) };
        match b.values {
            Numbers::F32(values) => {
                dispatch(Task { step: Single, a, b: values.as_ptr(), steps: b.inner, part });
            }
            #[cfg(target_arch = "x86_64")]
            Numbers::Bf16(values) => {
                let a = pairs::round(a, part.rows.len(), b.inner, &mut pairs);
                let (b, steps) = (values.as_ptr().cast(), b.inner.div_ceil(2));
                dispatch_bf16(Task { step: pairs::Pair, a, b, steps, part });
            }
            #[cfg(not(target_arch = "x86_64"))]
            Numbers::Bf16(_) => unreachable!("{WITHOUT_BF16}"),
        }
        SCRATCH.set([scratch, pairs]);
    };
    parallel::for_each(plan.blocks * plan.groups, run);
}

thread_local! {
    /// Where a thread writes its blocks of A, and rounds them to pairs; kept from one product to
    /// the next.
    static SCRATCH: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// How C is cut into tasks.
struct Plan {
    /// Blocks of rows.
    blocks: usize,
    /// Groups of panels.
    groups: usize,
}

impl Plan {
    /// `panel` is the number of numbers of a panel.
    fn new(rows: usize, panels: usize, panel: usize, threads: usize) -> Self {
        let inner = panel / panel_width();
        let blocks = match inner {
            0..=DEEP => (rows * inner).div_ceil(BLOCK).max(1),
            _ => rows.div_ceil(DEEP_ROWS),
        };
        if threads == 1 {
            return Self { blocks, groups: 1 };
        }
        // A few tasks for each thread, none of them tiny. Cut by rows the tiles stay high; few
        // rows are cut by panels, so that each thread reads its own part of B.
        let tasks = (rows * panels * panel / TASK).clamp(1, 2 * threads);
        if rows.div_ceil(TALL) < 2 * threads {
            return Self { blocks, groups: tasks.div_ceil(blocks).min(panels) };
        }
        let blocks = blocks.max(tasks).next_multiple_of(threads).min(rows);
        Self { blocks, groups: 1 }
    }
}

/// What a task writes.
struct Part<'a> {
    rows: Range<usize>,
    panels: Range<usize>,
    /// Of all of C.
    columns: usize,
    epilogue: &'a Epilogue<'a>,
    c: *mut f32,
}

struct Task<'a, T> {
    step: T,
    a: Block<'a>,
    /// `[panels, steps, width]`
    b: *const f32,
    steps: usize,
    part: Part<'a>,
}

impl<T: Step> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { step, a, b, steps, part: Part { rows, panels, columns, epilogue, c } } = self;
        let width = PANEL_VECTORS * S::F32_LANES;
        let count = rows.len();
        let tiles = count.div_ceil(kernel::max_rows::<S>());
        let last = (count - 1) * a.row_stride + steps.saturating_sub(1) * a.col_stride;
        assert!(steps == 0 || a.values.len() > last, "matmul: block of A too short");
        // A GELU needs the whole sum.
        let is_whole = epilogue.gelu || steps <= DEEP;
        let parts = if is_whole { 1 } else { steps.div_ceil(PART) };
        for index in 0..parts {
            let depth = part(steps, parts, index);
            let epilogue = epilogue.of_part(index, parts);
            for panel in panels.clone() {
                let column = panel * width;
                for tile in 0..tiles {
                    let part = part(count, tiles, tile);
                    let row = rows.start + part.start;
                    let first = part.start * a.row_stride + depth.start * a.col_stride;
                    // The first two tiles ask for the next panel.
                    let ahead = if tile < 2 { steps * width + tile * kernel::LINE } else { 0 };
                    let tile = kernel::Tile {
                        a: a.values.as_ptr().wrapping_add(first),
                        row_stride: a.row_stride,
                        col_stride: a.col_stride,
                        b: b.wrapping_add((panel * steps + depth.start) * width),
                        steps: depth.len(),
                        c: c.wrapping_add(row * columns + column),
                        c_stride: columns,
                        columns: width.min(columns - column),
                        origin: [row, column],
                        ahead,
                    };
                    // SAFETY: A reaches to `last`, B was checked by the caller, and the tile of C
                    // belongs to this task.
                    unsafe { kernel::compute(simd, step, part.len(), tile, &epilogue) };
                }
            }
        }
    }
}
