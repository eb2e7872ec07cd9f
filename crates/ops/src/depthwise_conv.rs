//! Depthwise convolution on channels-last maps: the LCE of Eq. 7 (5 × 5) and the position
//! encoding of a block (3 × 3).

use burn::tensor::{Tensor, module::conv2d, ops::ConvOptions};

/// Each channel convolved with its own odd, square kernel; zero padding keeps the size.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - weight: `[channels, 1, kernel_size, kernel_size]`, as PyTorch stores it
/// - bias: `[channels]`
/// - output: `[batch, height, width, channels]`
pub fn depthwise_conv(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
    let [channels, _, kernel_size, _] = weight.dims();
    let padding = kernel_size / 2;
    let x = x.permute([0, 3, 1, 2]); // [batch, channels, height, width]
    let options = ConvOptions::new([1, 1], [padding; 2], [1, 1], channels);
    conv2d(x, weight, bias, options).permute([0, 2, 3, 1])
}
