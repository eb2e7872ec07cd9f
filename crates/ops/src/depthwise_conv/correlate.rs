//! Gradients of the parameters: bias += Σ grad, tap += Σ x · grad, over some rows.
//!
//! The walk of the forward pass with the roles changed: a strip of the gradient stays in
//! registers while the kernel's rows of sums come and go. The sums of one task lie in the first
//! cache, in the order of packed taps.

#![allow(unsafe_code, reason = "strips and sums are accessed through pointers")]

use std::ops::Range;

use super::convolve::BLOCK;
use super::cpu::Map;
use super::window::{Strip, Window, column, multiply_add, walk, with_pixels};
use crate::simd::{Simd, WithSimd, load, mul_add, store};

/// Some rows, counted over all pictures, and some channels: a multiple of [`BLOCK`] and on.
pub(super) struct Correlation<'a> {
    pub x: Map<'a>,
    pub grad: Map<'a>,
    pub size: usize,
    /// Bias and taps of all channels, packed as [`Taps`](super::cpu::Taps) are.
    pub sums: *mut f32,
    pub rows: Range<usize>,
    pub channels: Range<usize>,
}

/// The pixels that a strip reads, and its sums.
#[derive(Clone, Copy)]
struct Tile {
    window: Window,
    grad: *const f32,
    grad_stride: usize,
    /// Bias, then the taps row by row, a vector each.
    sums: *mut f32,
}

impl WithSimd for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, grad, size, .. } = self;
        let strips = Strip::count::<S>(x.width);
        for first in self.channels.clone().step_by(BLOCK) {
            for index in 0..strips {
                let strip = Strip::new(x.width, strips, index, size);
                for row in self.rows.clone() {
                    let (n, y) = (row / x.height, row % x.height);
                    for channel in (first..x.channels.min(first + BLOCK)).step_by(S::F32_LANES) {
                        let tile = Tile {
                            window: Window::new(&x, strip, n, y, channel, size),
                            grad: grad.at(n, y, strip.start, channel),
                            grad_stride: grad.strides[2],
                            sums: self.sums.wrapping_add(channel * (1 + size * size)),
                        };
                        let count = S::F32_LANES.min(x.channels - channel);
                        // SAFETY: the maps were checked, and the sums belong to this task.
                        unsafe {
                            match size {
                                3 if count == S::F32_LANES => correlate_3(simd, tile),
                                5 if count == S::F32_LANES => correlate_5(simd, tile),
                                _ => correlate_any(simd, tile, size, count),
                            }
                        }
                    }
                }
            }
        }
    }
}

macro_rules! tile {
    (($simd:ident $tile:ident $size:literal [$($tap:ident)*]) $width:literal [$($pixel:ident)*]) => {{
        let window = $tile.window;
        // SAFETY: sums are vectors behind each other; only pixels of the maps are accessed.
        unsafe {
            let mut grad = $tile.grad;
            let mut bias = load($simd, $tile.sums);
            $(
                let $pixel = load($simd, grad);
                bias = $simd.add_f32s(bias, $pixel);
                grad = grad.wrapping_add($tile.grad_stride);
            )*
            let _ = grad;
            store($simd, $tile.sums, bias);
            let mut row = window.source;
            let mut sums = $tile.sums.add((1 + window.first * $size) * S::F32_LANES);
            for _ in 0..window.rows {
                let mut sum = sums;
                $(
                    let mut $tap = load($simd, sum);
                    sum = sum.wrapping_add(S::F32_LANES);
                )*
                let (mut at, mut i) = (row, 0);
                walk!(taps ($simd window at i $width $size) [$($pixel)*] [] [$($tap)*]);
                let _ = (at, i, sum);
                $(
                    store($simd, sums, $tap);
                    sums = sums.wrapping_add(S::F32_LANES);
                )*
                row = row.wrapping_add(window.row_stride);
            }
        }
    }};
}

#[inline(always)]
unsafe fn correlate_3<S: Simd>(simd: S, tile: Tile) {
    with_pixels!(tile.window.strip.width, tile(simd tile 3 [t0 t1 t2]));
}

#[inline(always)]
unsafe fn correlate_5<S: Simd>(simd: S, tile: Tile) {
    with_pixels!(tile.window.strip.width, tile(simd tile 5 [t0 t1 t2 t3 t4]));
}

/// Any kernel, and the last channels where they fill only `count` lanes: tap by tap.
#[inline(always)]
unsafe fn correlate_any<S: Simd>(simd: S, tile: Tile, size: usize, count: usize) {
    let Tile { window, .. } = tile;
    // SAFETY: the caller's; `count` channels can be read at each pixel that is not padding.
    let part = |at: *const f32| unsafe { std::slice::from_raw_parts(at, count) };
    let grad = |pixel| part(tile.grad.wrapping_add(pixel * tile.grad_stride));
    for pixel in 0..window.strip.width {
        let value = simd.partial_load_f32s(grad(pixel));
        // SAFETY: sums are vectors behind each other.
        unsafe { store(simd, tile.sums, simd.add_f32s(load(simd, tile.sums), value)) };
    }
    for row in 0..window.rows {
        let source = window.source.wrapping_add(row * window.row_stride);
        for kx in 0..size {
            let tap = 1 + (window.first + row) * size + kx;
            let target = tile.sums.wrapping_add(tap * S::F32_LANES);
            // SAFETY: as above.
            let mut sum = unsafe { load(simd, target) };
            let end = window.strip.width.min(window.strip.right.saturating_sub(kx));
            for pixel in window.strip.left.saturating_sub(kx)..end {
                let x = part(source.wrapping_add((pixel + kx) * window.col_stride));
                let (x, grad) = (simd.partial_load_f32s(x), simd.partial_load_f32s(grad(pixel)));
                sum = mul_add(simd, x, grad, sum);
            }
            // SAFETY: as above.
            unsafe { store(simd, target, sum) };
        }
    }
}
