//! Channels-last maps of another size, as PyTorch resizes and pools them.

use biformer_ops::{Taps, resample};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, s};

/// Bilinear, between the centres of pixels (`align_corners=False`, as all official models have it).
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, size[0], size[1], channels]`
pub fn resize_bilinear(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize(x, size, Taps::linear)
}

/// Bicubic, between the centres of pixels (`align_corners=False`, not antialiased), as position embeddings
/// are brought to another grid.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, size[0], size[1], channels]`
pub fn resize_bicubic(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize(x, size, Taps::cubic)
}

/// Each token a copy of the one at ⌊place · old size / new size⌋.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, size[0], size[1], channels]`
pub fn resize_nearest(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize(x, size, Taps::nearest)
}

/// Means over a grid of cells, which overlap by a token where sizes do not divide.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, cells, cells, channels]`
pub fn adaptive_avg_pool(x: Tensor<4>, cells: usize) -> Tensor<4> {
    resize(x, [cells; 2], Taps::means)
}

/// Every second token of every second row.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, height / 2, width / 2, channels]`, rounded up
pub fn every_second(x: Tensor<4>) -> Tensor<4> {
    x.slice(s![.., ..;2, ..;2, ..])
}

/// The greatest number of each two by two tokens, channel by channel.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, height / 2, width / 2, channels]`, rounded up
pub fn max_pool(x: Tensor<4>) -> Tensor<4> {
    let options = MaxPoolOptions::new([2, 2]).with_ceil_mode(true);
    let x = x.permute([0, 3, 1, 2]); // [batch, channels, height, width]
    max_pool2d(x, options).permute([0, 2, 3, 1])
}

fn resize(x: Tensor<4>, size: [usize; 2], taps: fn(usize, usize) -> Taps) -> Tensor<4> {
    let [_, height, width, _] = x.dims();
    if size == [height, width] {
        return x;
    }
    resample(x, taps(height, size[0]), taps(width, size[1]))
}
