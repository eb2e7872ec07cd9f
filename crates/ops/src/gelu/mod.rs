//! GELU (Hendrycks and Gimpel, 2016), the exact one: x · Φ(x) with the error function.

pub(crate) mod autodiff;
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32};
#[cfg(feature = "gpu")]
use crate::gpu::{GpuBackend, is_gpu_float};
use crate::profile::{self, Class};

/// x · ½ (1 + erf(x / √2)), element by element.
///
/// # Shapes
/// - x: any
/// - output: like `x`
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let _span = profile::span(Class::Gelu);
    #[cfg(feature = "gpu")]
    if is_gpu_float(&x) {
        return Tensor::from_dispatch(Dispatch::gpu_gelu(x.into_dispatch()));
    }
    if is_cpu_f32(&x) {
        Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch()))
    } else {
        definition(x)
    }
}

/// Not Burn's own, whose gradient is that of an approximation.
fn definition<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let probability = x.clone().mul_scalar(std::f32::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0);
    x.mul_scalar(0.5) * probability
}
