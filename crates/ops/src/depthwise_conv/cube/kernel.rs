//! The convolution, and the correlation that gives the gradients of its parameters.
//!
//! Neighbouring units have neighbouring channels, so that they read and write neighbouring numbers.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::gpu::{at, start, zeros};

/// Tokens of a row that a unit computes, which share what it reads.
pub(super) const STRIP: usize = 4;

/// One unit = [`STRIP`] tokens of a row, as many channels as a vector has.
///
/// # Shapes
/// - x, residual: `[batch, height, width, channels]`
/// - output: the same, or with more channels, of which those from `output_channel` on are written
/// - weight: `[size * size, channels]`
/// - bias: `[channels]`
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn convolve<E: Float, W: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    weight: &Tensor<Vector<W, N>>,
    bias: &Tensor<Vector<W, N>>,
    residual: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<E, N>>,
    output_channel: u32,
    #[comptime] size: usize,
    #[comptime] has_bias: bool,
    #[comptime] has_residual: bool,
    #[comptime] is_turned: bool,
    #[define(E, W)] _types: [ElemType; 2],
) {
    let vector_size = x.vector_size();
    let (height, width) = (x.shape(1), x.shape(2));
    let vectors = x.shape(3) / vector_size;
    let strips = width.div_ceil(STRIP);
    if ABSOLUTE_POS >= x.shape(0) * height * strips * vectors {
        terminate!();
    }
    let channel = ABSOLUTE_POS % vectors * vector_size;
    let left = ABSOLUTE_POS / vectors % strips * STRIP;
    let top = ABSOLUTE_POS / (vectors * strips) % height;
    let image = ABSOLUTE_POS / (vectors * strips * height);

    let mut sums = Sequence::<Vector<f32, N>>::new();
    #[unroll]
    for _ in 0..STRIP {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        if comptime!(has_bias) {
            sum = Vector::cast_from(bias[channel * bias.stride(0) / vector_size]);
        }
        sums.push(sum);
    }
    let first = start(x, image, channel);
    #[unroll]
    for i in 0..size {
        // Half a kernel too far down and right, so that no number is negative.
        let y = top + i;
        if y >= comptime!(size / 2) && y < height + comptime!(size / 2) {
            let y = y - comptime!(size / 2);
            let mut taps = Sequence::<Vector<f32, N>>::new();
            #[unroll]
            for j in 0..size {
                let tap = comptime!(if is_turned {
                    size * size - 1 - (i * size + j)
                } else {
                    i * size + j
                });
                let tap = tap * weight.stride(0) + channel * weight.stride(1);
                taps.push(Vector::cast_from(weight[tap / vector_size]));
            }
            #[unroll]
            for column in 0..comptime!(STRIP + size - 1) {
                let x_place = left + column;
                if x_place >= comptime!(size / 2) && x_place < width + comptime!(size / 2) {
                    let place = at(x, first, y, x_place - comptime!(size / 2));
                    let value = Vector::<f32, N>::cast_from(x[place]);
                    #[unroll]
                    for j in 0..size {
                        if comptime!(column >= j && column - j < STRIP) {
                            sums[comptime!(column - j)] += taps[j] * value;
                        }
                    }
                }
            }
        }
    }

    #[unroll]
    for token in 0..STRIP {
        let x_place = left + token;
        if x_place < width {
            let mut sum = sums[token];
            if comptime!(has_residual) {
                let place = at(residual, start(residual, image, channel), top, x_place);
                sum += Vector::cast_from(residual[place]);
            }
            let first = start(&*output, image, channel + output_channel as usize);
            let place = at(&*output, first, top, x_place);
            output[place] = Vector::cast_from(sum);
        }
    }
}

/// One unit = one row of the kernel, as many channels as a vector has, over `rows` rows of all maps.
///
/// # Shapes
/// - x, grad: `[batch, height, width, channels]`
/// - partial: `[chunks, size * size + 1, channels]`; the last row has the sums of `grad`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn correlate<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    grad: &Tensor<Vector<E, N>>,
    partial: &mut Tensor<Vector<f32, N>>,
    rows: u32,
    #[comptime] size: usize,
    #[define(E)] _type: ElemType,
) {
    let vector_size = x.vector_size();
    let (height, width) = (x.shape(1), x.shape(2));
    let vectors = x.shape(3) / vector_size;
    if ABSOLUTE_POS >= partial.shape(0) * size * vectors {
        terminate!();
    }
    let channel = ABSOLUTE_POS % vectors * vector_size;
    let i = ABSOLUTE_POS / vectors % size;
    let chunk = ABSOLUTE_POS / (vectors * size);

    let mut taps = zeros::<N>(size);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut row = chunk * rows as usize;
    let mut end = row + rows as usize;
    let all = x.shape(0) * height;
    end = select(end < all, end, all);
    while row < end {
        let (image, top) = (row / height, row % height);
        let (grad_first, x_first) = (start(grad, image, channel), start(x, image, channel));
        let y = top + i;
        let is_inside = y >= comptime!(size / 2) && y < height + comptime!(size / 2);
        let y = select(is_inside, y, comptime!(size / 2)) - comptime!(size / 2);
        let mut left = 0;
        while left < width {
            let factor = Vector::<f32, N>::cast_from(grad[at(grad, grad_first, top, left)]);
            sum += factor;
            if is_inside {
                #[unroll]
                for j in 0..size {
                    let column = left + j;
                    if column >= comptime!(size / 2) && column < width + comptime!(size / 2) {
                        let place = at(x, x_first, y, column - comptime!(size / 2));
                        taps[j] += factor * Vector::cast_from(x[place]);
                    }
                }
            }
            left += 1;
        }
        row += 1;
    }

    let first = chunk * partial.stride(0) + channel * partial.stride(2);
    #[unroll]
    for j in 0..size {
        let place = first + (i * size + j) * partial.stride(1);
        partial[place / vector_size] = taps[j];
    }
    if i == 0 {
        let place = first + comptime!(size * size) * partial.stride(1);
        partial[place / vector_size] = sum;
    }
}
