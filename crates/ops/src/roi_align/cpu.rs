//! RoIAlign of float32 on the CPU. Forward, one task = one box; backward, one task = one row of the gradient.
//!
//! A box adds up rows of the map, of the columns that it covers alone, in a buffer for each row of bins, then columns
//! of the buffer. Backward goes the other way: for each box that covers a row, rows of its gradient are added up in a
//! buffer, then its bins are added to the tokens. Boxes overlap, but every number is written by one task,
//! and boxes come in order: the same bits for any number of threads.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{RoiSampling, RoiTaps};
use crate::flex::{contiguous, tensor, values};
use crate::resample::Taps;
use crate::simd::{Simd, WithSimd, dispatch};
use crate::weighted_sum::{add_weighted_sum, weighted_sum};

/// See [`roi_align`](fn@crate::roi_align).
pub(crate) fn forward(x: &FlexTensor, RoiSampling { rois, map }: &RoiSampling) -> FlexTensor {
    let x = contiguous(x);
    let [_, height, width] = *map;
    let [.., channels] = x.layout().shape().dims::<4>();
    let size = rois[0].rows.sums.len();
    let mut output = vec![0.0; rois.len() * size * size * channels];
    let pictures = values(&x);
    let boxes = output.par_chunks_mut((size * size * channels).max(1)).zip(rois);
    boxes.for_each_init(Vec::new, |buffer, (bins, roi)| {
        let picture = &pictures[roi.picture * height * width * channels..];
        dispatch(Forward { picture, width, channels, roi, buffer, bins });
    });
    tensor(output, [rois.len(), size, size, channels])
}

/// Gradient of the maps.
pub(crate) fn backward(grad: &FlexTensor, RoiSampling { rois, map }: &RoiSampling) -> FlexTensor {
    let grad = contiguous(grad);
    let [batch, height, width] = *map;
    let [_, _, size, channels] = grad.layout().shape().dims();
    let rois: Vec<Transposed> = rois.iter().map(Transposed::new).collect();
    let mut output = vec![0.0; batch * height * width * channels];
    let bins = values(&grad);
    let rows = output.par_chunks_mut((width * channels).max(1)).enumerate();
    rows.for_each_init(Vec::new, |buffer, (row, tokens)| {
        let (picture, row) = (row / height, row % height);
        buffer.resize(size * channels, 0.0);
        let boxes = rois.iter().zip(bins.chunks_exact((size * size * channels).max(1)));
        for (roi, bins) in boxes.filter(|(roi, _)| roi.picture == picture) {
            let sum = &roi.rows.sums[row];
            if !sum.is_empty() {
                dispatch(Backward { bins, channels, sum, cols: &roi.cols, buffer, tokens });
            }
        }
    });
    tensor(output, [batch, height, width, channels])
}

struct Forward<'a> {
    /// `[height, width, channels]`
    picture: &'a [f32],
    width: usize,
    channels: usize,
    roi: &'a RoiTaps,
    buffer: &'a mut Vec<f32>,
    /// `[output_size, output_size, channels]`
    bins: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    /// Plain loops, which the compiler turns into those vectors.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { picture, width, channels, roi, buffer, bins } = self;
        let columns = covered(&roi.cols);
        let covered = columns.start * channels..columns.end * channels;
        buffer.resize(width * channels, 0.0);
        let row_of_bins = roi.cols.sums.len() * channels;
        for (bins, sum) in bins.chunks_exact_mut(row_of_bins).zip(&roi.rows.sums) {
            let source = &picture[covered.start..];
            weighted_sum(&mut buffer[covered.clone()], source, width * channels, sum);
            for (bin, sum) in bins.chunks_exact_mut(channels).zip(&roi.cols.sums) {
                weighted_sum(bin, buffer, channels, sum);
            }
        }
    }
}

/// From the first to the last column that a box needs.
fn covered(cols: &Taps) -> Range<usize> {
    let tokens = || cols.sums.iter().flatten().map(|&(token, _)| token);
    tokens().min().unwrap_or(0)..tokens().max().map_or(0, |last| last + 1)
}

/// A box as seen from the tokens: which bins each of them is in.
struct Transposed {
    picture: usize,
    rows: Taps,
    cols: Taps,
}

impl Transposed {
    fn new(RoiTaps { picture, rows, cols }: &RoiTaps) -> Self {
        Self { picture: *picture, rows: rows.transposed(), cols: cols.transposed() }
    }
}

struct Backward<'a> {
    /// `[output_size, output_size, channels]`
    bins: &'a [f32],
    channels: usize,
    /// Rows of bins that the row of tokens is in.
    sum: &'a [(usize, f32)],
    cols: &'a Taps,
    /// `[output_size, channels]`
    buffer: &'a mut [f32],
    /// `[width, channels]`
    tokens: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { bins, channels, sum, cols, buffer, tokens } = self;
        weighted_sum(buffer, bins, buffer.len(), sum);
        for (token, sum) in tokens.chunks_exact_mut(channels).zip(&cols.sums) {
            add_weighted_sum(token, buffer, channels, sum);
        }
    }
}
