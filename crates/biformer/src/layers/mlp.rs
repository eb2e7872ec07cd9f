//! The two-layer perceptron of a block.

use biformer_ops::{LinearFusion, Precision};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{LayerNorm, Linear};

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
            fc1: Linear::new(self.dim, hidden, true, device),
            fc2: Linear::new(hidden, self.dim, true, device),
        }
    }
}

impl Mlp {
    /// residual + mlp(norm(x)); what is `None` is left out.
    ///
    /// # Shapes
    /// - x, residual, output: `[batch, height, width, channels]`
    pub fn forward_fused(
        &self,
        x: Tensor<4>,
        norm: Option<&LayerNorm>,
        residual: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let (x, norm) = self.fc1.normalize(x, norm);
        let hidden =
            self.fc1.forward_fused(x, LinearFusion { norm, gelu: true, ..Default::default() });
        self.fc2.forward_fused(hidden, LinearFusion { residual, ..Default::default() })
    }

    /// See [`Linear::for_inference`].
    pub fn for_inference(self, precision: Precision) -> Self {
        Self { fc1: self.fc1.for_inference(precision), fc2: self.fc2.for_inference(precision) }
    }
}
