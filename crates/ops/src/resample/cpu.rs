//! Resampling of float32 on the CPU: one task = one new row.
//!
//! A task adds up old rows in a buffer that stays in its cache, then columns of the buffer. The gradient is
//! the same with the weights the other way round, so that every number is written once, by one task.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{Resampling, Taps};
use crate::flex::{contiguous, tensor, values};
use crate::simd::{Simd, WithSimd, dispatch};

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
                weighted_sum(buffer, picture, sum);
                buffer
            }
        };
        for (token, sum) in output.chunks_exact_mut(channels).zip(&cols.sums) {
            weighted_sum(token, row, sum);
        }
    }
}

/// The sum of parts of `source` as long as `target`.
#[inline(always)]
fn weighted_sum(target: &mut [f32], source: &[f32], sum: &[(usize, f32)]) {
    let len = target.len();
    let part = |index: usize| &source[index * len..][..len];
    let (pairs, rest) = sum.as_chunks::<2>();
    let mut is_first = true;
    for &[(a, a_weight), (b, b_weight)] in pairs {
        let parts = part(a).iter().zip(part(b));
        for (target, (a, b)) in target.iter_mut().zip(parts) {
            let former = if is_first { 0.0 } else { *target };
            *target = former + a * a_weight + b * b_weight;
        }
        is_first = false;
    }
    for &(a, weight) in rest {
        for (target, a) in target.iter_mut().zip(part(a)) {
            let former = if is_first { 0.0 } else { *target };
            *target = former + a * weight;
        }
        is_first = false;
    }
    if is_first {
        target.fill(0.0);
    }
}
