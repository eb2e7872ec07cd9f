//! Channels-last maps of another size. Burn's functions agree with PyTorch's; they see the map
//! channels-first.

use burn::tensor::module::{adaptive_avg_pool2d, interpolate};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Tensor, s};

/// Bilinear, between the centres of pixels (`align_corners=False`, as all official models have it).
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, size[0], size[1], channels]`
pub fn resize_bilinear(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize(x, size, InterpolateMode::Bilinear)
}

/// Each token a copy of the one at ⌊place · old size / new size⌋.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, size[0], size[1], channels]`
pub fn resize_nearest(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize(x, size, InterpolateMode::Nearest)
}

/// Means over a grid of cells, which overlap by a token where sizes do not divide.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, cells, cells, channels]`
pub fn adaptive_avg_pool(x: Tensor<4>, cells: usize) -> Tensor<4> {
    channels_first(x, |x| adaptive_avg_pool2d(x, [cells; 2]))
}

/// Every second token of every second row.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, height / 2, width / 2, channels]`, rounded up
pub fn every_second(x: Tensor<4>) -> Tensor<4> {
    x.slice(s![.., ..;2, ..;2, ..])
}

fn resize(x: Tensor<4>, size: [usize; 2], mode: InterpolateMode) -> Tensor<4> {
    let [_, height, width, _] = x.dims();
    if size == [height, width] {
        return x;
    }
    let options = InterpolateOptions::new(mode).with_align_corners(false).with_output_size(size);
    channels_first(x, |x| interpolate(x, options))
}

/// `function` on `[batch, channels, height, width]`.
fn channels_first(x: Tensor<4>, function: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    function(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
}
