//! The definition, by the backend's convolution of channels-first maps.

use burn::tensor::{Tensor, module::conv2d, ops::ConvOptions};

pub(super) fn depthwise_conv(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let [channels, _, kernel_size, _] = weight.dims();
    let options = ConvOptions::new([1, 1], [kernel_size / 2; 2], [1, 1], channels);
    let x = x.permute([0, 3, 1, 2]); // [batch, channels, height, width]
    conv2d(x, weight, Some(bias), options).permute([0, 2, 3, 1])
}
