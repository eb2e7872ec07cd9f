//! Layer normalisation (Ba et al., 2016) over the last axis, as PyTorch computes it.

pub(crate) mod autodiff;
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod cube;
mod reference;
mod row;

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};

use crate::backend::{OpsBackend, is_cpu_f32};
#[cfg(feature = "gpu")]
use crate::gpu::{GpuBackend, is_gpu_float};
use crate::profile::{self, Class};

/// (x − mean) / √(variance + epsilon) · gamma + beta over the last axis, with the biased variance.
///
/// # Shapes
/// - x: `[.., dim]`
/// - gamma, beta: `[dim]`
/// - output: like `x`
///
/// # Panics
/// If `gamma` or `beta` is not as long as the last axis of `x`.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    let dtype = x.dtype();
    layer_norm_as(x, gamma, beta, epsilon, dtype)
}

/// [`layer_norm`] with an output of another type, in one pass on a GPU.
///
/// # Shapes
/// - as [`layer_norm`]
///
/// # Panics
/// As [`layer_norm`].
pub fn layer_norm_as<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    dtype: DType,
) -> Tensor<D> {
    let _span = profile::span(Class::LayerNorm);
    let dim = x.dims()[D - 1];
    assert!(
        gamma.dims() == [dim] && beta.dims() == [dim],
        "layer_norm: got gamma {:?} and beta {:?}, expected [{dim}]",
        gamma.dims(),
        beta.dims()
    );
    #[cfg(feature = "gpu")]
    if is_gpu_float(&x) && [gamma.dtype(), beta.dtype()] == [x.dtype(); 2] {
        let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
        return Tensor::from_dispatch(Dispatch::gpu_layer_norm(x, gamma, beta, epsilon, dtype));
    }
    let normalized = if is_cpu_f32(&x) {
        let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
        Tensor::from_dispatch(Dispatch::fused_layer_norm(x, gamma, beta, epsilon))
    } else {
        reference::layer_norm(x, gamma, beta, epsilon)
    };
    normalized.cast(dtype)
}

/// The definition of [`layer_norm`] in plain tensor operations, on any device.
pub fn layer_norm_reference<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    reference::layer_norm(x, gamma, beta, epsilon)
}
