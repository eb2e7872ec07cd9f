//! Losses of mmdetection 2.11, element by element: what is summed, and by what it is divided, is for the heads to
//! say.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, sigmoid};

/// Focal loss (Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017, Eq. 5): −α_t (1 − p_t)^γ log p_t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FocalLoss {
    /// How far what is easy is weighed down; 0 is cross entropy.
    pub gamma: f64,
    /// Weight of what is there, 1 − α that of what is not.
    pub alpha: f64,
}

impl FocalLoss {
    /// As all published detectors have it.
    pub const RETINANET: Self = Self { gamma: 2.0, alpha: 0.25 };

    /// # Shapes
    /// - logits: any, of a sigmoid each
    /// - targets: the same, 1 for what is there and 0 for what is not
    /// - output: the same
    pub fn forward<const D: usize>(&self, logits: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
        let &Self { gamma, alpha } = self;
        // The logit of p_t: that of the sigmoid where something is there, else that of its complement.
        let logits = logits * (targets.clone() * 2.0 - 1.0);
        let alpha_t = targets * (2.0 * alpha - 1.0) + (1.0 - alpha);
        let difficulty = sigmoid(-logits.clone()).powf_scalar(gamma); // (1 − p_t)^γ
        -alpha_t * difficulty * log_sigmoid(logits)
    }
}

/// The difference, whatever its sign.
///
/// # Shapes
/// - predictions, targets, output: any, the same
pub fn l1_loss<const D: usize>(predictions: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
    (predictions - targets).abs()
}

/// [`l1_loss`], but a parabola where the difference is below `beta`, and less by `beta` / 2 beyond (Girshick,
/// *Fast R-CNN*, ICCV 2015, Eq. 3).
///
/// # Shapes
/// - predictions, targets, output: any, the same
///
/// # Panics
/// If `beta` is not positive: [`l1_loss`] is what it would become.
pub fn smooth_l1_loss<const D: usize>(
    predictions: Tensor<D>,
    targets: Tensor<D>,
    beta: f64,
) -> Tensor<D> {
    assert!(beta > 0.0, "smooth_l1_loss: got a beta of {beta}, expected a positive one");
    let difference = l1_loss(predictions, targets);
    let near = difference.clone().clamp_max(beta);
    near.clone().square() / (2.0 * beta) + difference - near
}
