//! Sums down the columns of a matrix: gradients of biases, and all that a batch norm needs.
//!
//! Rows are cut into chunks by the shape alone, and the sums of the chunks are added in order: the same
//! numbers for any number of threads. Within a chunk a vector of columns goes down four rows at a time,
//! because an addition takes four cycles.

#![allow(unsafe_code, reason = "vectors of a row are accessed through pointers")]

use std::ops::Range;

use rayon::prelude::*;

use crate::simd::{Simd, WithSimd, dispatch, load_some, mul_add, store_some};

/// Numbers of a chunk.
const CHUNK: usize = 1 << 15;

/// What is summed, for each number of a matrix.
pub(crate) trait Term: Copy + Sync {
    /// Rows of the matrix.
    ///
    /// # Panics
    /// If what goes by columns has not as many numbers.
    fn rows(&self, columns: usize) -> usize;

    /// Adds a vector of terms to the sum.
    ///
    /// # Safety
    /// The place lies within the matrix.
    unsafe fn add<S: Simd>(&self, simd: S, at: Place, sum: S::f32s) -> S::f32s;
}

/// Where a vector is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// In the matrix.
    index: usize,
    column: usize,
    /// Columns from here on.
    count: usize,
}

impl Place {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, matrix: &[f32]) -> S::f32s {
        // SAFETY: the caller's.
        unsafe { load_some(simd, matrix.as_ptr().add(self.index), self.count) }
    }

    #[inline(always)]
    unsafe fn centred<S: Simd>(self, simd: S, matrix: &[f32], center: &[f32]) -> S::f32s {
        // SAFETY: the caller's.
        unsafe {
            let center = load_some(simd, center.as_ptr().add(self.column), self.count);
            simd.sub_f32s(self.load(simd, matrix), center)
        }
    }
}

/// x
#[derive(Clone, Copy)]
pub(crate) struct Value<'a>(pub &'a [f32]);

impl Term for Value<'_> {
    fn rows(&self, columns: usize) -> usize {
        self.0.len() / columns
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(&self, simd: S, at: Place, sum: S::f32s) -> S::f32s {
        // SAFETY: the caller's.
        simd.add_f32s(sum, unsafe { at.load(simd, self.0) })
    }
}

/// (x − center)²
#[derive(Clone, Copy)]
pub(crate) struct Square<'a> {
    pub x: &'a [f32],
    /// By columns.
    pub center: &'a [f32],
}

impl Term for Square<'_> {
    fn rows(&self, columns: usize) -> usize {
        assert_eq!(self.center.len(), columns, "column_sums: a centre for each column");
        self.x.len() / columns
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(&self, simd: S, at: Place, sum: S::f32s) -> S::f32s {
        // SAFETY: the caller's.
        let x = unsafe { at.centred(simd, self.x, self.center) };
        mul_add(simd, x, x, sum)
    }
}

/// (x − center) · y
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub x: &'a [f32],
    /// By columns.
    pub center: &'a [f32],
    pub y: &'a [f32],
}

impl Term for Product<'_> {
    fn rows(&self, columns: usize) -> usize {
        assert_eq!(self.center.len(), columns, "column_sums: a centre for each column");
        self.x.len().min(self.y.len()) / columns
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(&self, simd: S, at: Place, sum: S::f32s) -> S::f32s {
        // SAFETY: the caller's.
        let (x, y) = unsafe { (at.centred(simd, self.x, self.center), at.load(simd, self.y)) };
        mul_add(simd, x, y, sum)
    }
}

/// The sums over the rows of a matrix, one for each of its columns.
pub(crate) fn column_sums(term: impl Term, columns: usize) -> Vec<f32> {
    if columns == 0 {
        return Vec::new();
    }
    let rows = term.rows(columns);
    let step = (CHUNK / columns).max(1);
    let chunk = |chunk: usize| {
        let mut sums = vec![0.0; columns];
        let rows = chunk * step..((chunk + 1) * step).min(rows);
        dispatch(Chunk { term, rows, sums: &mut sums });
        sums
    };
    let chunks: Vec<Vec<f32>> = match rows.div_ceil(step) {
        1 => vec![chunk(0)],
        count => (0..count).into_par_iter().map(chunk).collect(),
    };
    let mut total = vec![0.0; columns];
    for sums in chunks {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    total
}

struct Chunk<'a, T> {
    term: T,
    rows: Range<usize>,
    /// As many as there are columns.
    sums: &'a mut [f32],
}

impl<T: Term> WithSimd for Chunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { term, rows, sums } = self;
        let columns = sums.len();
        for column in (0..columns).step_by(S::F32_LANES) {
            let count = columns - column;
            let place = |row: usize| Place { index: row * columns + column, column, count };
            let [mut a, mut b, mut c, mut d] = [simd.splat_f32s(0.0); 4];
            let mut row = rows.start;
            // SAFETY: the places lie within the matrix.
            unsafe {
                while row + 4 <= rows.end {
                    a = term.add(simd, place(row), a);
                    b = term.add(simd, place(row + 1), b);
                    c = term.add(simd, place(row + 2), c);
                    d = term.add(simd, place(row + 3), d);
                    row += 4;
                }
                while row < rows.end {
                    a = term.add(simd, place(row), a);
                    row += 1;
                }
                let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
                store_some(simd, sums.as_mut_ptr().add(column), sum, count);
            }
        }
    }
}
