//! Depthwise convolution of channels-last float32 maps.
//!
//! One task = some rows of the output. A row stays in the first cache while the taps of the
//! kernel are added to it, one after the other; channels lie in vector lanes. The input is read
//! where it is: a slice of a wider map (V in QKV) needs no copy. Sums over pictures are added in
//! order, so that results do not depend on the number of threads.

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use rayon::prelude::*;

use crate::simd::vectorize;

/// Multiply-adds of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 15;

/// See [`depthwise_conv`](fn@crate::depthwise_conv).
pub(crate) fn forward(x: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let taps = Taps::new(weight, false);
    let bias = bias.to_contiguous();
    convolve(&Map::new(x), &taps, Some(&bias.storage::<f32>()[bias.layout().start_offset()..]))
}

/// Gradient of the input: the gradient of the output convolved with the mirrored kernel.
pub(crate) fn backward_x(weight: &FlexTensor, grad: &FlexTensor) -> FlexTensor {
    convolve(&Map::new(grad), &Taps::new(weight, true), None)
}

/// Gradients of weight and bias.
pub(crate) fn backward_parameters(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let (x, grad) = (Map::new(x), Map::new(grad));
    let (channels, size) = (x.channels, Taps::new(weight, false).size);
    let per_picture: Vec<Vec<f32>> = (0..x.batch)
        .into_par_iter()
        .map(|n| {
            let mut sums = vec![0.0; (size * size + 1) * channels];
            vectorize(|| add_products(&mut sums, &x, &grad, n, size));
            sums
        })
        .collect();
    let mut sums = vec![0.0; (size * size + 1) * channels];
    for picture in &per_picture {
        for (sum, value) in sums.iter_mut().zip(picture) {
            *sum += value;
        }
    }
    let grad_bias = sums.split_off(size * size * channels);
    let by_channel = (0..channels)
        .flat_map(|c| (0..size * size).map(move |tap| tap * channels + c))
        .map(|i| sums[i])
        .collect();
    (tensor(by_channel, vec![channels, 1, size, size]), tensor(grad_bias, vec![channels]))
}

/// A channels-last map whose channels lie side by side.
struct Map {
    tensor: FlexTensor,
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    strides: [usize; 3],
    offset: usize,
}

impl Map {
    fn new(tensor: &FlexTensor) -> Self {
        let positive = tensor.layout().strides().iter().all(|&stride| stride >= 0);
        let tensor = match positive && tensor.layout().strides()[3] == 1 {
            true => tensor.clone(),
            false => tensor.to_contiguous(),
        };
        let [batch, height, width, channels] = tensor.layout().shape().dims();
        let strides = std::array::from_fn(|i| tensor.layout().strides()[i] as usize);
        let offset = tensor.layout().start_offset();
        Self { tensor, batch, height, width, channels, strides, offset }
    }

    /// All numbers from the first token of a row on.
    #[inline(always)]
    fn row(&self, n: usize, y: usize) -> &[f32] {
        &self.tensor.storage()[self.offset + n * self.strides[0] + y * self.strides[1]..]
    }
}

/// A kernel with channels side by side: `[size, size, channels]`.
struct Taps {
    values: Vec<f32>,
    size: usize,
}

impl Taps {
    fn new(weight: &FlexTensor, mirrored: bool) -> Self {
        let weight = weight.to_contiguous();
        let [channels, _, size, _] = weight.layout().shape().dims();
        let data = &weight.storage::<f32>()[weight.layout().start_offset()..];
        let count = size * size;
        let source = |tap: usize| if mirrored { count - 1 - tap } else { tap };
        let values = (0..count)
            .flat_map(|tap| (0..channels).map(move |c| c * count + source(tap)))
            .map(|i| data[i])
            .collect();
        Self { values, size }
    }
}

fn convolve(x: &Map, taps: &Taps, bias: Option<&[f32]>) -> FlexTensor {
    let row_len = x.width * x.channels;
    let mut output = vec![0.0; x.batch * x.height * row_len];
    let rows = (TASK / (row_len * taps.size * taps.size).max(1)).max(1);
    output.par_chunks_mut(row_len * rows).enumerate().for_each(|(task, chunk)| {
        vectorize(|| {
            for (i, row) in chunk.chunks_mut(row_len).enumerate() {
                let index = task * rows + i;
                convolve_row(row, x, index / x.height, index % x.height, taps, bias);
            }
        });
    });
    tensor(output, vec![x.batch, x.height, x.width, x.channels])
}

#[inline(always)]
fn convolve_row(
    output: &mut [f32],
    x: &Map,
    n: usize,
    y: usize,
    taps: &Taps,
    bias: Option<&[f32]>,
) {
    let (channels, stride, size) = (x.channels, x.strides[2], taps.size);
    if let Some(bias) = bias {
        for token in output.chunks_exact_mut(channels) {
            token.copy_from_slice(&bias[..channels]);
        }
    }
    for ky in 0..size {
        let Some(iy) = shifted(y, ky, size, x.height) else { continue };
        let input = x.row(n, iy);
        for kx in 0..size {
            let tap = &taps.values[(ky * size + kx) * channels..][..channels];
            let (first, end) = covered(kx, size, x.width);
            for column in first..end {
                let source = &input[(column + kx - size / 2) * stride..][..channels];
                let target = &mut output[column * channels..][..channels];
                for ((target, source), tap) in target.iter_mut().zip(source).zip(tap) {
                    *target += source * tap;
                }
            }
        }
    }
}

/// Adds x · grad of picture `n` to each tap, and grad to the bias behind them.
#[inline(always)]
fn add_products(sums: &mut [f32], x: &Map, grad: &Map, n: usize, size: usize) {
    let channels = x.channels;
    let (taps, bias) = sums.split_at_mut(size * size * channels);
    for y in 0..x.height {
        let grad_row = grad.row(n, y);
        for column in 0..x.width {
            let grad = &grad_row[column * grad.strides[2]..][..channels];
            for (sum, grad) in bias.iter_mut().zip(grad) {
                *sum += grad;
            }
        }
        for ky in 0..size {
            let Some(iy) = shifted(y, ky, size, x.height) else { continue };
            let input = x.row(n, iy);
            for kx in 0..size {
                let tap = &mut taps[(ky * size + kx) * channels..][..channels];
                let (first, end) = covered(kx, size, x.width);
                for column in first..end {
                    let source = &input[(column + kx - size / 2) * x.strides[2]..][..channels];
                    let grad = &grad_row[column * grad.strides[2]..][..channels];
                    for ((sum, source), grad) in tap.iter_mut().zip(source).zip(grad) {
                        *sum += source * grad;
                    }
                }
            }
        }
    }
}

/// The input row that tap row `ky` of output row `y` sees, unless it is padding.
#[inline(always)]
fn shifted(y: usize, ky: usize, size: usize, height: usize) -> Option<usize> {
    (y + ky).checked_sub(size / 2).filter(|&y| y < height)
}

/// The output columns whose tap column `kx` does not fall on padding.
#[inline(always)]
fn covered(kx: usize, size: usize, width: usize) -> (usize, usize) {
    let first = (size / 2).saturating_sub(kx).min(width);
    let end = (width + size / 2).saturating_sub(kx).min(width);
    (first, end.max(first))
}

fn tensor(data: Vec<f32>, shape: Vec<usize>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape))
}
