//! Depthwise convolution as a layer: position encoding and local context enhancement.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Tensor};

/// Each channel convolved with its own square kernel, channels-last, size kept.
#[derive(Module, Debug)]
pub struct DepthwiseConv {
    /// `[channels, 1, kernel_size, kernel_size]`
    pub weight: Param<Tensor<4>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
}

impl DepthwiseConv {
    /// Weights drawn as PyTorch draws those of a convolution.
    pub fn new(channels: usize, kernel_size: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [kernel_size; 2])
            .with_groups(channels)
            .init(device);
        Self { weight: conv.weight, bias: conv.bias.expect("convolutions have a bias") }
    }

    /// Weights and bias of 0: it adds nothing until it has learnt.
    pub fn zeros(channels: usize, kernel_size: usize, device: &Device) -> Self {
        let shape = [channels, 1, kernel_size, kernel_size];
        Self {
            weight: Initializer::Zeros.init(shape, device),
            bias: Initializer::Zeros.init([channels], device),
        }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        biformer_ops::depthwise_conv(x, self.weight.val(), self.bias.val())
    }

    /// The layer with its weight in the order in which the device's kernel reads it.
    pub fn for_inference(self) -> Self {
        Self { weight: self.weight.map(biformer_ops::prepare_depthwise_weight), ..self }
    }

    /// residual + [`DepthwiseConv::forward`]
    pub fn forward_add(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        biformer_ops::depthwise_conv_add(x, self.weight.val(), self.bias.val(), residual)
    }
}
