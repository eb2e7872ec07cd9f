//! Layers with the initial weights of the official models.

use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::Device;

/// A linear layer with weights from N(0, 0.02²) and a bias of 0.
///
/// The official code truncates the normal at ±2, which is 100 standard deviations and never
/// cuts.
pub fn linear(d_input: usize, d_output: usize, bias: bool, device: &Device) -> Linear {
    let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
    let mut linear =
        LinearConfig::new(d_input, d_output).with_bias(false).with_initializer(normal).init(device);
    linear.bias = bias.then(|| Initializer::Zeros.init([d_output], device));
    linear
}
