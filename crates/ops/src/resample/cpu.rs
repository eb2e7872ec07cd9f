//! Resampling of float32 on the CPU: one task = one new row.
//!
//! A task adds up old rows in a buffer that stays in its cache, then columns of the buffer. The gradient is
//! the same with the weights the other way round, so that every number is written once, by one task.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{Resampling, Taps};
use crate::flex::{contiguous, tensor, values};
use crate::simd::{Simd, WithSimd, dispatch};
use crate::weighted_sum::weighted_sum;

/// See [`resample`](fn@crate::resample).
pub(crate) fn forward(x: &FlexTensor, Resampling { rows, cols }: &Resampling) -> FlexTensor {
    let x = contiguous(x);
    let [batch, height, width, channels] = x.layout().shape().dims();
    let (new_height, new_width) = (rows.sums.len(), cols.sums.len());
    let mut output = vec![0.0; batch * new_height * new_width * channels];
    let pictures = values(&x);
    let len = (new_width * channels).max(1);
    output.par_chunks_mut(len).enumerate().for_each_init(Vec::new, |buffer, (row, output)| {
        let (picture, row) = (row / new_height, row % new_height);
        let picture = &pictures[picture * height * width * channels..][..height * width * channels];
        dispatch(Row { picture, width, channels, sum: &rows.sums[row], cols, buffer, output });
    });
    tensor(output, [batch, new_height, new_width, channels])
}

/// Gradient of the input.
pub(crate) fn backward(grad: &FlexTensor, Resampling { rows, cols }: &Resampling) -> FlexTensor {
    forward(grad, &Resampling { rows: rows.transposed(), cols: cols.transposed() })
}

struct Row<'a> {
    /// `[height, width, channels]`
    picture: &'a [f32],
    width: usize,
    channels: usize,
    /// Old rows and their weights.
    sum: &'a [(usize, f32)],
    cols: &'a Taps,
    buffer: &'a mut Vec<f32>,
    /// `[new width, channels]`
    output: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    /// Plain loops, which the compiler turns into those vectors.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { picture, width, channels, sum, cols, buffer, output } = self;
        let len = width * channels;
        let row = match sum {
            [(row, weight)] if *weight == 1.0 => &picture[row * len..][..len],
            _ => {
                buffer.resize(len, 0.0);
                weighted_sum(buffer, picture, len, sum);
                buffer
            }
        };
        for (token, sum) in output.chunks_exact_mut(channels).zip(&cols.sums) {
            weighted_sum(token, row, channels, sum);
        }
    }
}
