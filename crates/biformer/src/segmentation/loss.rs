//! The losses of mmsegmentation 0.30: cross entropy of every pixel, at the size of the labels.

use burn::tensor::{Bool, Int, Tensor, activation::log_softmax};

use super::SegmentorOutput;
use crate::data::segmentation::IGNORE_INDEX;
use crate::layers::resize_bilinear;

/// The label of pixels that do not count, as tensors have it.
pub const IGNORED: i64 = IGNORE_INDEX as i64;

/// Weight of the loss of the auxiliary head (official configuration of UPerNet).
const AUXILIARY_WEIGHT: f64 = 0.4;

/// What the losses of pixels are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeanOver {
    /// The number of all pixels, those that do not count included: mmsegmentation, and so the official
    /// models.
    AllPixels,
    /// The number of pixels that count, or the sum of their weights: PyTorch's `cross_entropy`.
    LabelledPixels,
}

/// What a training step has to say of its batch, under mmsegmentation's names.
#[derive(Clone, Debug)]
pub struct SegmentationLosses {
    /// The sum, to be minimised. `[1]`
    pub loss: Tensor<1>,
    /// Cross entropy of the decode head. `[1]`
    pub decode_loss_ce: Tensor<1>,
    /// Cross entropy of the auxiliary head, already weighted. `[1]`
    pub aux_loss_ce: Option<Tensor<1>>,
    /// Percentage of labelled pixels that the decode head has right. `[1]`
    pub decode_acc_seg: Tensor<1>,
}

/// The losses of both heads, as the official models are trained.
///
/// # Shapes
/// - output: logits of any size
/// - labels: `[batch, height, width]`, classes or [`IGNORED`]
/// - class_weight: `[num_classes]`, factors of the losses of pixels by their class; 1 if left out
pub fn segmentation_losses(
    output: SegmentorOutput,
    labels: Tensor<3, Int>,
    class_weight: Option<Tensor<1>>,
) -> SegmentationLosses {
    let [_, height, width] = labels.dims();
    let at_labels = |logits: Tensor<4>| resize_logits(logits, [height, width]);
    let cross_entropy = |logits| {
        pixel_cross_entropy(logits, labels.clone(), class_weight.clone(), MeanOver::AllPixels)
    };
    let logits = at_labels(output.logits);
    let decode_acc_seg = pixel_accuracy(logits.clone(), labels.clone());
    let decode_loss_ce = cross_entropy(logits);
    let aux_loss_ce =
        output.auxiliary.map(|logits| cross_entropy(at_labels(logits)) * AUXILIARY_WEIGHT);
    let loss = match &aux_loss_ce {
        Some(auxiliary) => decode_loss_ce.clone() + auxiliary.clone(),
        None => decode_loss_ce.clone(),
    };
    SegmentationLosses { loss, decode_loss_ce, aux_loss_ce, decode_acc_seg }
}

/// Mean of −weight(label) · log p(label) over the pixels.
///
/// # Shapes
/// - logits: `[batch, num_classes, height, width]`
/// - labels: `[batch, height, width]`, classes or [`IGNORED`]
/// - class_weight: `[num_classes]`; all 1 if left out
/// - output: `[1]`
pub fn pixel_cross_entropy(
    logits: Tensor<4>,
    labels: Tensor<3, Int>,
    class_weight: Option<Tensor<1>>,
    mean_over: MeanOver,
) -> Tensor<1> {
    let (ignored, labels) = split_ignored(labels);
    let shape = ignored.shape();
    let of_label = log_softmax(channels_last(logits), 3).gather(3, labels.clone()); // [batch, height, width, 1]
    let weights = match class_weight {
        Some(weights) => weights.select(0, labels.flatten(0, 3)).reshape(shape.clone()),
        None => Tensor::ones(shape.clone(), &of_label.device()),
    };
    let weights = weights.mask_fill(ignored, 0.0); // [batch, height, width, 1]
    let sum = (of_label * weights.clone()).sum().neg();
    match mean_over {
        MeanOver::AllPixels => sum / shape.num_elements() as f64,
        MeanOver::LabelledPixels => {
            let total = weights.sum();
            let none = total.clone().equal_elem(0.0);
            sum / total.mask_fill(none, 1.0) // None at all: a loss of 0.
        }
    }
}

/// Percentage of labelled pixels whose class has the highest logit (mmsegmentation's `acc_seg`).
///
/// # Shapes
/// - logits: `[batch, num_classes, height, width]`
/// - labels: `[batch, height, width]`, classes or [`IGNORED`]
/// - output: `[1]`, without a gradient
pub fn pixel_accuracy(logits: Tensor<4>, labels: Tensor<3, Int>) -> Tensor<1> {
    let (ignored, labels) = split_ignored(labels);
    let hits = channels_last(logits.detach()).argmax(3).equal(labels); // [batch, height, width, 1]
    let hits = hits.float().mask_fill(ignored.clone(), 0.0).sum();
    hits * 100.0 / labelled(ignored).clamp_min(1.0)
}

/// Bilinear, between the centres of pixels.
///
/// # Shapes
/// - logits: `[batch, num_classes, height, width]`
/// - output: `[batch, num_classes, size[0], size[1]]`
pub fn resize_logits(logits: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    resize_bilinear(channels_last(logits), size).permute([0, 3, 1, 2])
}

/// The class of the highest logit of each pixel.
///
/// # Shapes
/// - logits: `[batch, num_classes, height, width]`
/// - output: `[batch, height, width]`
pub fn pixel_classes(logits: Tensor<4>) -> Tensor<3, Int> {
    channels_last(logits).argmax(3).squeeze_dim(3)
}

/// As heads give them: without a copy then.
fn channels_last(logits: Tensor<4>) -> Tensor<4> {
    logits.permute([0, 2, 3, 1])
}

/// Where pixels do not count, and labels with a class in those places.
///
/// # Shapes
/// - labels: `[batch, height, width]`
/// - outputs: `[batch, height, width, 1]`
fn split_ignored(labels: Tensor<3, Int>) -> (Tensor<4, Bool>, Tensor<4, Int>) {
    let labels: Tensor<4, Int> = labels.unsqueeze_dim(3);
    let ignored = labels.clone().equal_elem(IGNORED);
    (ignored.clone(), labels.mask_fill(ignored, 0))
}

/// Number of pixels that count, `[1]`.
fn labelled(ignored: Tensor<4, Bool>) -> Tensor<1> {
    ignored.bool_not().float().sum()
}
