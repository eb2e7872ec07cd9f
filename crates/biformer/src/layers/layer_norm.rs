//! Layer norm over channels.

use biformer_ops::Norm;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};

use super::Linear;

/// Official: every layer norm of the models.
const EPSILON: f64 = 1e-6;

/// (x − mean) / √(variance + ε) · γ + β
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[channels]`
    pub gamma: Param<Tensor<1>>,
    /// `[channels]`
    pub beta: Param<Tensor<1>>,
    /// ε
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm {
    /// γ = 1, β = 0, ε = 1e-6
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            epsilon: EPSILON,
        }
    }

    /// The same with another ε.
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// # Shapes
    /// - x: `[.., channels]`
    /// - output: like `x`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        biformer_ops::layer_norm(x, self.gamma.val(), self.beta.val(), self.epsilon)
    }

    /// [`LayerNorm::forward`] in the type that a linear layer multiplies, if this is a smaller one: what follows
    /// then moves half the bytes.
    pub(crate) fn forward_for<const D: usize>(&self, x: Tensor<D>, next: &Linear) -> Tensor<D> {
        let dtype = match next.product_type() {
            DType::F32 => x.dtype(),
            half => half,
        };
        biformer_ops::layer_norm_as(x, self.gamma.val(), self.beta.val(), self.epsilon, dtype)
    }

    /// The parameters, for operators that normalise on their way.
    pub fn parameters(&self) -> Norm {
        Norm { gamma: self.gamma.val(), beta: self.beta.val(), epsilon: self.epsilon }
    }
}
