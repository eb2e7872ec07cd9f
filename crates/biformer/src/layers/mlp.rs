//! The two-layer perceptron of a block.

use biformer_ops::gelu;
use burn::config::Config;
use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::linear;

/// Configuration of [`Mlp`].
#[derive(Config, Debug)]
pub struct MlpConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Hidden channels per channel; 3 in T, S and B, 4 in the Swin layout.
    pub ratio: usize,
}

/// Linear, exact (erf) GELU, linear.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `dim` to `dim * ratio`.
    pub fc1: Linear,
    /// `dim * ratio` to `dim`.
    pub fc2: Linear,
}

impl MlpConfig {
    /// The perceptron with fresh weights.
    pub fn init(&self, device: &Device) -> Mlp {
        let hidden = self.dim * self.ratio;
        Mlp {
            fc1: linear(self.dim, hidden, true, device),
            fc2: linear(hidden, self.dim, true, device),
        }
    }
}

impl Mlp {
    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.fc2.forward(gelu(self.fc1.forward(x)))
    }
}
