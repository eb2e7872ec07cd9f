//! Batch norm of channels-last maps, with the running statistics of PyTorch.

use burn::nn::BatchNorm;
use burn::tensor::{Tensor, module::batch_norm_train};

/// Batch norm over the last axis.
///
/// In training the running variance takes in the unbiased variance of the batch, as PyTorch
/// has it; Burn's own forward takes the biased one.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: like `x`
pub fn batch_norm(norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let count = batch * height * width;
    let x = x.reshape([count, channels]);
    let output = if x.device().is_autodiff() && norm.training.is_enabled() {
        let result = batch_norm_train(x, norm.gamma.val(), norm.beta.val(), norm.epsilon);
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        let (mean, variance) = (result.mean.detach(), result.variance.detach() * unbiased);
        let (old, new) = (1.0 - norm.momentum, norm.momentum);
        norm.running_mean.update(norm.running_mean.value_sync() * old + mean * new);
        norm.running_var.update(norm.running_var.value_sync() * old + variance * new);
        result.output
    } else {
        norm.forward(x)
    };
    output.reshape([batch, height, width, channels])
}
