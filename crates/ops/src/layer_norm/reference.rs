//! The definition.

use burn::tensor::Tensor;

pub(super) fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    let mean = x.clone().mean_dim(D - 1); // [.., 1]
    let centred = x - mean;
    let variance = centred.clone().powi_scalar(2).mean_dim(D - 1); // [.., 1]
    let normalized = centred / variance.add_scalar(epsilon).sqrt();
    normalized * gamma.unsqueeze() + beta.unsqueeze()
}
