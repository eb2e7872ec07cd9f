//! Losses of mmdetection 2.11, element by element: what is summed, and by what it is divided, is for the heads to
//! say.

use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid};
use burn::tensor::{Int, Tensor, TensorData};

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

/// Cross entropy of what is there or not: −t log σ(x) − (1 − t) log(1 − σ(x)).
///
/// # Shapes
/// - logits, targets, output: any, the same
pub fn sigmoid_cross_entropy<const D: usize>(logits: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
    // log(1 − σ(x)) = log σ(−x) is finite for any logit, and log σ(x) is larger by x.
    -(logits.clone() * targets) - log_sigmoid(-logits)
}

/// Cross entropy of one class of several, −log p(label).
///
/// # Shapes
/// - logits: `[rows, classes]`
/// - labels, output: `[rows]`
///
/// # Panics
/// If there are not as many labels as rows.
pub fn softmax_cross_entropy(logits: Tensor<2>, labels: &[usize]) -> Tensor<1> {
    let ([rows, _], device) = (logits.dims(), logits.device());
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [rows, 1]), &device);
    -log_softmax(logits, 1).gather(1, labels).squeeze_dim(1)
}
