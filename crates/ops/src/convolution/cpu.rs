//! Convolutions of float32 on the CPU, as products of patches with the kernel.
//!
//! A block of patches is written where the second cache holds it, multiplied, and
//! forgotten: the matrix of all patches never exists. A patch is `size` runs of
//! `size · channels` numbers of the map, since channels come last.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{ConvolutionOptions, Window};
use crate::Precision;
use crate::flex::{contiguous, leads_forward, tensor, values};
use crate::linear;
use crate::matmul::{self, Block, Epilogue, Matrix, Rows};

/// Numbers of a chunk of patches for the gradient of the weight.
const CHUNK: usize = 1 << 19;
/// Patches of such a chunk, at least: for each the whole gradient is read and written.
const PATCHES: usize = 256;

/// See [`convolution`](fn@crate::convolution).
pub(crate) fn fused(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    options: ConvolutionOptions,
) -> FlexTensor {
    let bias = contiguous(bias);
    let patches = Patches::new(x, options.window);
    let epilogue =
        Epilogue { bias: Some(values(&bias)), gelu: options.gelu, ..Epilogue::default() };
    let panels = linear::cpu::panels(weight, patches.len(), options.channels_out);
    let output = matmul::multiply(&patches, panels, patches.count(), &epilogue);
    tensor(output, [patches.batch, patches.rows, patches.cols, options.channels_out])
}

/// The convolution of plain weights.
pub(crate) fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    window: Window,
    precision: Precision,
) -> FlexTensor {
    let [_, channels_out] = weight.layout().shape().dims();
    let options = ConvolutionOptions { window, channels_out, gelu: false };
    fused(x, &linear::cpu::pack(weight, precision), bias, options)
}

/// Gradient of the weight: the patches, transposed, times the gradient of the output.
pub(crate) fn backward_weight(
    x: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
    precision: Precision,
) -> FlexTensor {
    let grad = contiguous(grad);
    let patches = Patches::new(x, window);
    let [_, _, _, dim_out] = grad.layout().shape().dims();
    let dim_in = patches.len();
    let chunk = (CHUNK / dim_in).max(PATCHES);
    let mut output = vec![0.0; dim_in * dim_out];
    let mut scratch = Vec::new();
    for (i, grad) in values(&grad).chunks(chunk * dim_out).enumerate() {
        let first = i * chunk;
        let rows = first..first + grad.len() / dim_out;
        let block = patches.block(rows, &mut scratch);
        linear::cpu::add_products(&mut output, block.values, grad, [dim_in, dim_out], precision);
    }
    tensor(output, [dim_in, dim_out])
}

/// Gradient of the input.
pub(crate) fn backward_x(
    shape: [usize; 4],
    weight: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
    precision: Precision,
) -> FlexTensor {
    if window.stride == 1 && window.padding < window.size {
        return turned_convolution(shape, weight, grad, window, precision);
    }
    scattered_patches(shape, weight, grad, window, precision)
}

/// Where windows stand side by side the gradient is a convolution, too: of the gradient of the output with
/// the kernel turned by half a circle, its channels the other way round.
fn turned_convolution(
    [.., channels]: [usize; 4],
    weight: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
    precision: Precision,
) -> FlexTensor {
    let [_, dim_out] = weight.layout().shape().dims();
    let weight = contiguous(weight);
    let taps = values(&weight).chunks_exact(channels * dim_out);
    let dim_in = taps.len() * dim_out;
    let mut turned = vec![0.0; dim_in * channels];
    let targets = turned.chunks_exact_mut(dim_out * channels);
    for (target, tap) in targets.zip(taps.rev()) {
        for (i, row) in tap.chunks_exact(dim_out).enumerate() {
            row.iter().enumerate().for_each(|(j, weight)| target[j * channels + i] = *weight);
        }
    }
    let turned = tensor(turned, [dim_in, channels]);
    let bias = tensor(vec![0.0; channels], [channels]);
    let window = Window { padding: window.size - 1 - window.padding, ..window };
    forward(grad, &turned, &bias, window, precision)
}

/// The gradient of every patch, added where the patch came from.
fn scattered_patches(
    shape: [usize; 4],
    weight: &FlexTensor,
    grad: &FlexTensor,
    window: Window,
    precision: Precision,
) -> FlexTensor {
    let [dim_in, dim_out] = weight.layout().shape().dims();
    let (weight, grad) = (linear::cpu::pack_transposed(weight, precision), contiguous(grad));
    let [_, rows, cols, _] = grad.layout().shape().dims::<4>();
    let panels = linear::cpu::panels(&weight, dim_out, dim_in);
    let [_, height, width, channels] = shape;
    let mut output = vec![0.0; shape.iter().product()];
    let pictures = output
        .par_chunks_mut((height * width * channels).max(1))
        .zip(values(&grad).par_chunks((rows * cols * dim_out).max(1)));
    pictures.for_each(|(output, grad)| {
        let grad = Matrix(Block { values: grad, row_stride: dim_out, col_stride: 1 });
        let patches = matmul::multiply(&grad, panels, rows * cols, &Epilogue::default());
        for (i, patch) in patches.chunks_exact(dim_in).enumerate() {
            let (oy, ox) = (i / cols, i % cols);
            for (j, part) in patch.chunks_exact(channels).enumerate() {
                let (ky, kx) = (j / window.size, j % window.size);
                let y = (oy * window.stride + ky).wrapping_sub(window.padding);
                let x = (ox * window.stride + kx).wrapping_sub(window.padding);
                if y < height && x < width {
                    let target = &mut output[(y * width + x) * channels..][..channels];
                    target.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                }
            }
        }
    });
    tensor(output, shape)
}

/// The patches of a map, one a row: `[batch * rows * cols, size * size * channels]`.
struct Patches {
    x: FlexTensor,
    window: Window,
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    rows: usize,
    cols: usize,
    strides: [usize; 4],
}

impl Patches {
    fn new(x: &FlexTensor, window: Window) -> Self {
        // Pictures come channels-first: they are read as they are, too.
        let x = if leads_forward(x) { x.clone() } else { x.to_contiguous() };
        let [batch, height, width, channels] = x.layout().shape().dims();
        let strides = std::array::from_fn(|i| x.layout().strides()[i] as usize);
        let (rows, cols) = (window.count(height), window.count(width));
        Self { x, window, batch, height, width, channels, rows, cols, strides }
    }

    fn count(&self) -> usize {
        self.batch * self.rows * self.cols
    }

    /// Numbers of a patch.
    fn len(&self) -> usize {
        self.window.size * self.window.size * self.channels
    }

    /// Writes the patch of an output pixel.
    fn write(&self, index: usize, patch: &mut [f32]) {
        let Window { size, stride, padding } = self.window;
        let [n_stride, y_stride, x_stride, c_stride] = self.strides;
        let (n, pixel) = (index / (self.rows * self.cols), index % (self.rows * self.cols));
        let (top, left) = (pixel / self.cols * stride, pixel % self.cols * stride);
        let data = &self.x.storage::<f32>()[self.x.layout().start_offset() + n * n_stride..];
        let run = size * self.channels;
        let inside = left >= padding && left - padding + size <= self.width;
        for (ky, target) in patch.chunks_exact_mut(run).enumerate() {
            let y = (top + ky).wrapping_sub(padding);
            if y >= self.height {
                target.fill(0.0);
            } else if inside && c_stride == 1 && x_stride == self.channels {
                let start = y * y_stride + (left - padding) * x_stride;
                target.copy_from_slice(&data[start..start + run]);
            } else {
                for (kx, target) in target.chunks_exact_mut(self.channels).enumerate() {
                    let x = (left + kx).wrapping_sub(padding);
                    if x >= self.width {
                        target.fill(0.0);
                        continue;
                    }
                    let start = y * y_stride + x * x_stride;
                    for (c, target) in target.iter_mut().enumerate() {
                        *target = data[start + c * c_stride];
                    }
                }
            }
        }
    }
}

impl Rows for Patches {
    fn block<'a>(&'a self, rows: Range<usize>, scratch: &'a mut Vec<f32>) -> Block<'a> {
        let length = self.len();
        scratch.resize(rows.len() * length, 0.0);
        for (index, patch) in rows.zip(scratch.chunks_exact_mut(length)) {
            self.write(index, patch);
        }
        Block { values: scratch, row_stride: length, col_stride: 1 }
    }
}
