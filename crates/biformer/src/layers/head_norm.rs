//! The norm between the last map of a backbone and the head of a classifier.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};

use super::{LayerNorm, batch_norm};

/// Batch norm, or layer norm.
#[derive(Module, Debug)]
pub enum HeadNorm {
    /// BiFormer.
    Batch(BatchNorm),
    /// Swin.
    Layer(LayerNorm),
}

impl HeadNorm {
    /// A fresh batch norm.
    pub fn batch(channels: usize, device: &Device) -> Self {
        Self::Batch(BatchNormConfig::new(channels).init(device))
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Batch(norm) => batch_norm(norm, x),
            Self::Layer(norm) => norm.forward(x),
        }
    }
}
