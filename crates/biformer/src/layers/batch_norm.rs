//! Batch norm of channels-last maps, with the running statistics of PyTorch.

use biformer_ops::{self as ops, Reducer, all_reduce};
use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;

use super::batch_part::{BatchPart, batch_part};

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
    let (shape, positions) = (x.dims(), height * width);
    let x = x.reshape([batch * positions, channels]);
    if !(x.device().is_autodiff() && norm.training.is_enabled()) {
        return norm.forward(x).reshape(shape);
    }
    let part = batch_part();
    let part = part.as_deref();
    if let Some((part, reducer)) = part.and_then(|part| Some((part, part.sync_bn.as_ref()?))) {
        let count = part.readable * positions;
        let (output, mean, variance) = normalised_over_all(norm, x, count, part, reducer);
        update_statistics(norm, mean, variance, count);
        return output.reshape(shape);
    }
    let (output, moments) = ops::batch_norm(x, norm.gamma.val(), norm.beta.val(), norm.epsilon);
    if !part.is_some_and(|part| part.is_empty) {
        let [mean, variance] = [0, 1].map(|row| moments.clone().narrow(0, row, 1).squeeze_dim(0));
        update_statistics(norm, mean, variance, batch * positions);
    }
    output.reshape(shape)
}

/// The module with the running statistics of its batch norms as they are: in training, too, they are what is
/// normalised with, and they do not change (mmdetection's `norm_eval`). Scales and shifts still learn.
pub fn freeze_statistics<M: Module>(module: M) -> M {
    struct Freeze;
    impl ModuleMapper for Freeze {
        // Batch norms alone have such flags here.
        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            flag.with_value(false)
        }
    }
    module.map(&mut Freeze)
}

/// Takes the statistics of a batch of `count` positions into the running ones.
///
/// # Shapes
/// - mean, variance: `[channels]`, the variance the biased one
fn update_statistics(norm: &BatchNorm, mean: Tensor<1>, variance: Tensor<1>, count: usize) {
    let unbiased = count as f64 / (count.max(2) - 1) as f64;
    let (mean, variance) = (mean.detach(), variance.detach() * unbiased);
    let (old, new) = (1.0 - norm.momentum, norm.momentum);
    norm.running_mean.update(norm.running_mean.value_sync() * old + mean * new);
    norm.running_var.update(norm.running_var.value_sync() * old + variance * new);
}

/// The output with the mean and the variance over the pictures of all processes, and these two.
///
/// # Shapes
/// - x: `[positions, channels]`, of `count` positions in all processes
/// - outputs: `[positions, channels]`, `[channels]`, `[channels]`
fn normalised_over_all(
    norm: &BatchNorm,
    x: Tensor<2>,
    count: usize,
    part: &BatchPart,
    reducer: &Reducer,
) -> (Tensor<2>, Tensor<1>, Tensor<1>) {
    let share = if part.is_empty { 0.0 } else { 1.0 / count as f64 };
    let mean_over_all = |x: Tensor<2>| all_reduce(x.sum_dim(0) * share, reducer); // [1, channels]
    let mean = mean_over_all(x.clone());
    let centred = x - mean.clone();
    // From the differences, not from the squares: those cancel in float32.
    let variance = mean_over_all(centred.clone().square());
    let scale = norm.gamma.val().unsqueeze() / (variance.clone() + norm.epsilon).sqrt();
    let output = centred * scale + norm.beta.val().unsqueeze();
    (output, mean.squeeze_dim(0), variance.squeeze_dim(0))
}
