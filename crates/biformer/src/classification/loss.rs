//! Cross entropy with label smoothing (Szegedy et al., 2016), as timm computes it.

use burn::tensor::{Int, Tensor, activation::log_softmax};

/// Mean over the batch of (1 − smoothing) · −log p(target) + smoothing · mean over classes of
/// −log p.
///
/// # Shapes
/// - logits: `[batch, num_classes]`
/// - targets: `[batch]`, class indices
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
    let log_probabilities = log_softmax(logits, 1);
    let of_target = log_probabilities.clone().gather(1, targets.unsqueeze_dim(1)).mean();
    if smoothing == 0.0 {
        return of_target.neg();
    }
    (of_target * (1.0 - smoothing) + log_probabilities.mean() * smoothing).neg()
}

/// Cross entropy with soft targets, such as those of Mixup: mean over the batch of
/// −Σ target · log p.
///
/// # Shapes
/// - logits, targets: `[batch, num_classes]`
/// - output: `[1]`
pub fn soft_target_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    (log_softmax(logits, 1) * targets).sum_dim(1).mean().neg()
}
