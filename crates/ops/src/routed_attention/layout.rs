//! Where the tokens of regions lie in maps, and buffers for what is written beside the maps.

#![allow(unsafe_code, reason = "a buffer of lines is a slice of numbers")]

use std::ops::Range;

use super::quads::QUAD;
use crate::RegionGrid;
use crate::simd::prefetch;

/// A channels-last map in memory: the number at (n, y, x, c) is
/// `values[n * strides[0] + y * strides[1] + x * strides[2] + c]`.
#[derive(Clone, Copy)]
pub(crate) struct Map<'a> {
    pub values: &'a [f32],
    pub strides: [usize; 3],
}

/// Who attends to whom, and where their numbers lie.
pub(crate) struct Problem<'a> {
    pub batch: usize,
    pub num_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    pub grid: &'a RegionGrid,
    /// `[batch, regions, topk]`
    pub region_graph: &'a [usize],
    pub topk: usize,
    pub mask_padding: bool,
    pub query: Map<'a>,
    /// For the backward pass readable for [`slack`](super::tile::slack) numbers behind its last token.
    pub key: Map<'a>,
    /// For the forward pass readable like that.
    pub value: Map<'a>,
}

impl Problem<'_> {
    /// Keys of each query, where each region is filled up to whole quads.
    pub fn padded_keys(&self) -> usize {
        self.topk * self.grid.tokens().next_multiple_of(QUAD)
    }

    /// Regions that a region of image `n` attends to.
    pub fn routed(&self, n: usize, region: usize) -> &[usize] {
        &self.region_graph[(n * self.grid.regions() + region) * self.topk..][..self.topk]
    }

    /// What is added to the logits of a query region: −∞ for keys that are padding, if these are
    /// masked, and for what fills the last quad of a region. `None` if that is 0 everywhere.
    pub fn fill_bias(&self, routed: &[usize], bias: &mut [f32]) -> Option<*const f32> {
        let RegionGrid { height, width, cols, region_height, region_width, .. } = *self.grid;
        let tokens = self.grid.tokens();
        let quads = tokens.next_multiple_of(QUAD);
        if !self.mask_padding && tokens == quads {
            return None;
        }
        for (bias, region) in bias.chunks_exact_mut(quads).zip(routed) {
            bias[..tokens].fill(0.0);
            bias[tokens..].fill(f32::NEG_INFINITY);
            if self.mask_padding {
                let (top, left) = (region / cols * region_height, region % cols * region_width);
                for (y, row) in bias[..tokens].chunks_exact_mut(region_width).enumerate() {
                    let first = if top + y < height { width.saturating_sub(left) } else { 0 };
                    row[first.min(region_width)..].fill(f32::NEG_INFINITY);
                }
            }
        }
        Some(bias.as_ptr())
    }
}

/// Offsets of the tokens of regions in one image of a map.
pub(crate) struct Offsets {
    /// Of the first token of each region.
    pub regions: Vec<usize>,
    /// Of each token of a region, from the first one on.
    pub tokens: Vec<usize>,
}

impl Offsets {
    pub fn new(strides: [usize; 3], grid: &RegionGrid) -> Self {
        let [_, row, col] = strides;
        let region = |r: usize| {
            let (y, x) = (r / grid.cols * grid.region_height, r % grid.cols * grid.region_width);
            y * row + x * col
        };
        let token = |t: usize| t / grid.region_width * row + t % grid.region_width * col;
        Self {
            regions: (0..grid.regions()).map(region).collect(),
            tokens: (0..grid.tokens()).map(token).collect(),
        }
    }

    /// Asks for a region of image `n` ahead of its use: its rows are short, and too far apart for
    /// the processor to see where they go on.
    #[inline(always)]
    pub fn prefetch(&self, map: &Map, n: usize, region: usize, channels: usize) {
        let first = map.values.as_ptr().wrapping_add(n * map.strides[0] + self.regions[region]);
        for &token in &self.tokens {
            prefetch(first.wrapping_add(token), channels);
        }
    }

    /// Offsets of the tokens of `regions`, one region after the other, each in whole quads.
    pub fn of_regions(&self, regions: &[usize], target: &mut Vec<usize>) {
        target.clear();
        for &region in regions {
            let first = self.regions[region];
            target.extend(self.tokens.iter().map(|token| first + token));
            target.resize(target.len().next_multiple_of(QUAD), first);
        }
    }
}

/// Numbers that start at a cache line, so that vectors do not straddle two.
pub(crate) struct Buffer(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Buffer {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        Self(vec![Line([0.0; 16]); len.div_ceil(16)])
    }

    pub fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = 16 * self.0.len();
        // SAFETY: a line is 16 numbers without padding.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}

/// Nearly equal parts of `0..total`, none longer than `most`.
pub(crate) fn parts(total: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = total.div_ceil(most);
    (0..count).map(move |i| total * i / count..total * (i + 1) / count)
}
