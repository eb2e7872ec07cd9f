//! The definition, by the backend's convolution of channels-first maps.

use burn::tensor::{Tensor, module::conv2d, ops::ConvOptions};

use super::Window;

pub(super) fn convolution(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    window: Window,
) -> Tensor<4> {
    let Window { size, stride, padding } = window;
    let ([_, channels_out], [_, _, _, channels_in]) = (weight.dims(), x.dims());
    let kernel = weight.reshape([size, size, channels_in, channels_out]).permute([3, 2, 0, 1]);
    let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1);
    let x = x.permute([0, 3, 1, 2]); // [batch, channels_in, height, width]
    conv2d(x, kernel, Some(bias), options).permute([0, 2, 3, 1])
}
