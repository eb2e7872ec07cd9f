//! What a strip of neighbouring pixels of an output row sees of the input, and the walk over it.
//!
//! The walk goes column by column over one row of the input. A column is loaded once and
//! meets each tap of the kernel's row, at another pixel of the strip each time:
//!
//! ```text
//! column   0   1   2   3   4   5     (strip of 4, kernel of 3; column 0 is left of the strip)
//! pixel 0  w0  w1  w2
//! pixel 1      w0  w1  w2
//! pixel 2          w0  w1  w2
//! pixel 3              w0  w1  w2
//! ```
//!
//! Pixels and taps stay in registers: 8 + 5 + 1 fit where there are sixteen. Columns that can lie
//! on padding are those before and behind the strip; only they are tested.

use std::ops::Range;

use super::cpu::Map;
use crate::parallel::part;
use crate::simd::Simd;

/// Pixels side by side whose channels in a vector share the loads of one walk.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    pub start: usize,
    pub width: usize,
    /// The columns of the walk that are not padding start and end here.
    pub left: usize,
    pub right: usize,
}

impl Strip {
    /// The widths that [`with_pixels`] has, for maps this wide.
    #[inline(always)]
    pub fn count<S: Simd>(map_width: usize) -> usize {
        // The maps of a 224² picture are 56, 28, 14 wide.
        let widest = if S::REGISTER_COUNT >= 32 && map_width.is_multiple_of(14) { 14 } else { 8 };
        map_width.div_ceil(widest)
    }

    /// Strip `index` of `count`.
    #[inline(always)]
    pub fn new(map_width: usize, count: usize, index: usize, kernel_size: usize) -> Self {
        let Range { start, end } = part(map_width, count, index);
        let (width, radius) = (end - start, kernel_size / 2);
        let left = radius.saturating_sub(start);
        let right = (map_width + radius - start).min(width + 2 * radius);
        Self { start, width, left, right }
    }
}

/// A vector of channels of the input pixels under a strip.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub strip: Strip,
    /// Column 0 of the first row that is not padding; may lie outside of the map.
    pub source: *const f32,
    pub row_stride: usize,
    pub col_stride: usize,
    /// The first row of the kernel that does not fall on padding, and how many do not.
    pub first: usize,
    pub rows: usize,
}

impl Window {
    #[inline(always)]
    pub fn new(x: &Map, strip: Strip, n: usize, y: usize, channel: usize, size: usize) -> Self {
        let radius = size / 2;
        let top = y.saturating_sub(radius);
        let bottom = (y + radius + 1).min(x.height);
        let [_, row_stride, col_stride] = x.strides;
        let source = x.at(n, top, strip.start, channel).wrapping_sub(radius * col_stride);
        Self { strip, source, row_stride, col_stride, first: top + radius - y, rows: bottom - top }
    }
}

/// target = x · factor + target for each pair, as far as both lists reach.
macro_rules! multiply_add {
    ($simd:ident $x:ident [$target:ident $($targets:ident)*] [$factor:ident $($factors:ident)*]) => {
        $target = mul_add($simd, $x, $factor, $target);
        multiply_add!($simd $x [$($targets)*] [$($factors)*]);
    };
    ($simd:ident $x:ident [] $factors:tt) => {};
    ($simd:ident $x:ident $targets:tt []) => {};
}

/// One column, which can be read where it is not padding: `met` are the pixels that it meets, last first, with the first of `taps` and on.
macro_rules! column {
    ($into:ident ($simd:ident $window:ident $at:ident $i:ident $width:literal $size:literal) $met:tt $taps:tt) => {
        if ($i >= $size / 2 || $i >= $window.strip.left)
            && ($i < $width + $size / 2 || $i < $window.strip.right)
        {
            let x = load($simd, $at);
            column!(@$into $simd x $met $taps);
        }
        $at = $at.wrapping_add($window.col_stride);
        $i += 1;
    };
    (@pixels $simd:ident $x:ident $met:tt $taps:tt) => { multiply_add!($simd $x $met $taps) };
    (@taps $simd:ident $x:ident $met:tt $taps:tt) => { multiply_add!($simd $x $taps $met) };
}

/// The columns of one row, adding `pixel += column · tap` (`pixels`) or
/// `tap += column · pixel` (`taps`).
macro_rules! walk {
    // A column reaches the next pixel.
    ($into:ident $context:tt [$pixel:ident $($pixels:ident)*] [$($met:ident)*] $taps:tt) => {
        column!($into $context [$pixel $($met)*] $taps);
        walk!($into $context [$($pixels)*] [$pixel $($met)*] $taps);
    };
    // Behind the last pixel: a column leaves the first tap.
    ($into:ident $context:tt [] $met:tt [$first:ident $tap:ident $($taps:ident)*]) => {
        column!($into $context $met [$tap $($taps)*]);
        walk!($into $context [] $met [$tap $($taps)*]);
    };
    ($into:ident $context:tt [] $met:tt [$last:ident]) => {};
}

/// `$body!(context width [names of so many pixels])` for the width at run time: the compiler
/// keeps sums in registers only if each has a name.
macro_rules! with_pixels {
    ($width:expr, $body:ident $context:tt) => {
        match $width {
            1 => $body!($context 1 [p0]),
            2 => $body!($context 2 [p0 p1]),
            3 => $body!($context 3 [p0 p1 p2]),
            4 => $body!($context 4 [p0 p1 p2 p3]),
            5 => $body!($context 5 [p0 p1 p2 p3 p4]),
            6 => $body!($context 6 [p0 p1 p2 p3 p4 p5]),
            7 => $body!($context 7 [p0 p1 p2 p3 p4 p5 p6]),
            8 => $body!($context 8 [p0 p1 p2 p3 p4 p5 p6 p7]),
            14 if S::REGISTER_COUNT >= 32 => {
                $body!($context 14 [p0 p1 p2 p3 p4 p5 p6 p7 p8 p9 p10 p11 p12 p13])
            }
            width => unreachable!("a strip of {width} pixels"),
        }
    };
}

pub(super) use {column, multiply_add, walk, with_pixels};
