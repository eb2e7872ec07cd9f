//! Batch normalisation (Ioffe and Szegedy, 2015) of a training step, over all axes but the last, as
//! PyTorch computes it.

pub(crate) mod autodiff;
pub(crate) mod cpu;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32};
use crate::profile::{self, Class};

/// (x − mean) / √(variance + epsilon) · gamma + beta with the mean and the biased variance of each
/// column; and these two, which carry no gradient.
///
/// # Shapes
/// - x: `[positions, channels]`
/// - gamma, beta: `[channels]`
/// - outputs: like `x`; `[2, channels]`, means then variances
///
/// # Panics
/// If `gamma` or `beta` is not as long as the last axis of `x`.
pub fn batch_norm(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<2>, Tensor<2>) {
    let _span = profile::span(Class::BatchNorm);
    let channels = x.dims()[1];
    assert!(
        gamma.dims() == [channels] && beta.dims() == [channels],
        "batch_norm: got gamma {:?} and beta {:?}, expected [{channels}]",
        gamma.dims(),
        beta.dims()
    );
    if !is_cpu_f32(&x) {
        return batch_norm_reference(x, gamma, beta, epsilon);
    }
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    let moments = Dispatch::batch_moments(x.clone());
    let output = Dispatch::fused_batch_norm(x, gamma, beta, moments.clone(), epsilon);
    (Tensor::from_dispatch(output), Tensor::from_dispatch(moments))
}

/// The definition of [`batch_norm`] in plain tensor operations, on any device.
pub fn batch_norm_reference(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<2>, Tensor<2>) {
    let moments = reference::moments(x.clone());
    (reference::batch_norm(x, gamma, beta, moments.clone(), epsilon), moments.detach())
}
