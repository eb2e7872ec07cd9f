//! Rows of a depthwise convolution: y = bias + Σ tap · x (+ residual).
//!
//! Channels lie in vector lanes. For a vector of channels, a strip of an output row stays in
//! registers over all taps; each row of the kernel is loaded once for the strip, each pixel
//! of the input once for each row of the kernel. A strip is finished from top to bottom, sixty-four
//! channels at a time, so that the rows it shares with the next one are still near.

#![allow(unsafe_code, reason = "strips are read and written through pointers")]

use std::ops::Range;

use super::cpu::{Map, Taps};
use super::window::{Strip, Window, column, multiply_add, walk, with_pixels};
use crate::simd::{Simd, WithSimd, load, mul_add, store};

/// Channels that go down a strip together: a few cache lines side by side.
pub(super) const BLOCK: usize = 64;

/// Some rows of the output of picture `n`.
pub(super) struct Convolution<'a> {
    pub x: Map<'a>,
    pub taps: &'a Taps,
    /// May be the output itself.
    pub residual: Option<Residual>,
    /// First number of the whole output, which is contiguous.
    pub output: *mut f32,
    pub n: usize,
    pub rows: Range<usize>,
}

/// A map of the output's shape that is added to it.
#[derive(Clone, Copy)]
pub(super) struct Residual {
    pub values: *const f32,
    pub strides: [usize; 3],
}

// SAFETY: a task reads the pixels that it writes, and of another map all tasks only read.
unsafe impl Sync for Residual {}
// SAFETY: as above.
unsafe impl Send for Residual {}

/// The pixels that a strip reads and writes.
#[derive(Clone, Copy)]
struct Tile {
    window: Window,
    /// Bias, then the taps row by row, a vector each.
    taps: *const f32,
    /// Null without one.
    residual: *const f32,
    residual_stride: usize,
    output: *mut f32,
    output_stride: usize,
}

impl WithSimd for Convolution<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (channels, size) = (self.x.channels, self.taps.size);
        let strips = Strip::count::<S>(self.x.width);
        for first in (0..channels).step_by(BLOCK) {
            for index in 0..strips {
                let strip = Strip::new(self.x.width, strips, index, size);
                for y in self.rows.clone() {
                    for channel in (first..channels.min(first + BLOCK)).step_by(S::F32_LANES) {
                        let tile = self.tile(strip, y, channel);
                        let count = S::F32_LANES.min(channels - channel);
                        // SAFETY: the maps were checked, and the rows belong to this task.
                        unsafe {
                            match size {
                                3 if count == S::F32_LANES => convolve_3(simd, tile),
                                5 if count == S::F32_LANES => convolve_5(simd, tile),
                                _ => convolve_any(simd, tile, size, count),
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Convolution<'_> {
    #[inline(always)]
    fn tile(&self, strip: Strip, y: usize, channel: usize) -> Tile {
        let (x, size) = (&self.x, self.taps.size);
        let (residual, residual_stride) = match self.residual {
            Some(Residual { values, strides: [picture, row, column] }) => {
                let offset = self.n * picture + y * row + strip.start * column + channel;
                (values.wrapping_add(offset), column)
            }
            None => (std::ptr::null(), 0),
        };
        let pixel = (self.n * x.height + y) * x.width + strip.start;
        Tile {
            window: Window::new(x, strip, self.n, y, channel, size),
            taps: self.taps.of(channel),
            residual,
            residual_stride,
            output: self.output.wrapping_add(pixel * x.channels + channel),
            output_stride: x.channels,
        }
    }
}

macro_rules! tile {
    (($simd:ident $tile:ident $size:literal [$($tap:ident)*]) $width:literal [$($pixel:ident)*]) => {{
        let window = $tile.window;
        // SAFETY: bias and taps are vectors behind each other; only pixels of the maps are accessed.
        unsafe {
            let bias = load($simd, $tile.taps);
            $(let mut $pixel = bias;)*
            let mut row = window.source;
            let mut taps = $tile.taps.add((1 + window.first * $size) * S::F32_LANES);
            for _ in 0..window.rows {
                $(
                    let $tap = load($simd, taps);
                    taps = taps.wrapping_add(S::F32_LANES);
                )*
                let (mut at, mut i) = (row, 0);
                walk!(pixels ($simd window at i $width $size) [$($pixel)*] [] [$($tap)*]);
                let _ = (at, i);
                row = row.wrapping_add(window.row_stride);
            }
            if !$tile.residual.is_null() {
                let mut residual = $tile.residual;
                $(
                    $pixel = $simd.add_f32s($pixel, load($simd, residual));
                    residual = residual.wrapping_add($tile.residual_stride);
                )*
                let _ = residual;
            }
            let mut output = $tile.output;
            $(
                store($simd, output, $pixel);
                output = output.wrapping_add($tile.output_stride);
            )*
            let _ = output;
        }
    }};
}

#[inline(always)]
unsafe fn convolve_3<S: Simd>(simd: S, tile: Tile) {
    with_pixels!(tile.window.strip.width, tile(simd tile 3 [t0 t1 t2]));
}

#[inline(always)]
unsafe fn convolve_5<S: Simd>(simd: S, tile: Tile) {
    with_pixels!(tile.window.strip.width, tile(simd tile 5 [t0 t1 t2 t3 t4]));
}

/// Any kernel, and the last channels where they fill only `count` lanes: pixel by pixel.
#[inline(always)]
unsafe fn convolve_any<S: Simd>(simd: S, tile: Tile, size: usize, count: usize) {
    let Tile { window, .. } = tile;
    // SAFETY: the caller's; `count` channels can be accessed at each pixel that is not padding.
    let part = |at: *const f32| unsafe { std::slice::from_raw_parts(at, count) };
    for pixel in 0..window.strip.width {
        // SAFETY: bias and taps are vectors behind each other.
        let mut sum = unsafe { load(simd, tile.taps) };
        for row in 0..window.rows {
            let taps = tile.taps.wrapping_add((1 + (window.first + row) * size) * S::F32_LANES);
            let source = window.source.wrapping_add(row * window.row_stride);
            for kx in window.strip.left.saturating_sub(pixel)..size.min(window.strip.right - pixel)
            {
                let x = part(source.wrapping_add((pixel + kx) * window.col_stride));
                // SAFETY: as above.
                let tap = unsafe { load(simd, taps.wrapping_add(kx * S::F32_LANES)) };
                sum = mul_add(simd, simd.partial_load_f32s(x), tap, sum);
            }
        }
        if !tile.residual.is_null() {
            let residual = part(tile.residual.wrapping_add(pixel * tile.residual_stride));
            sum = simd.add_f32s(sum, simd.partial_load_f32s(residual));
        }
        let output = tile.output.wrapping_add(pixel * tile.output_stride);
        // SAFETY: the caller's.
        simd.partial_store_f32s(unsafe { std::slice::from_raw_parts_mut(output, count) }, sum);
    }
}
