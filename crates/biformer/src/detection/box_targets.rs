//! Which regions the second stage learns from, and what it learns of their boxes.

use burn::tensor::Tensor;
use rand::rngs::StdRng;

use super::assigner::{Match, MaxIouAssigner};
use super::box_coder::{BoxCoder, Deltas};
use super::box_head::BoxOutput;
use super::boxes::Xyxy;
use super::ground_truth::GroundTruth;
use super::losses::{l1_loss, softmax_cross_entropy};
use super::rpn_losses::{delta_rows, indices};
use super::sampler::RandomSampler;

/// What proposals stand for, as in the official configuration of Mask R-CNN: IoU of 0.5, and the best proposals of an
/// object stand for it from there on even if another is nearer.
pub const ASSIGNER: MaxIouAssigner =
    MaxIouAssigner { positive: 0.5, negative: 0.5, low_quality: Some(0.5) };

/// A region that the heads learn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledRegion {
    /// In pixels.
    pub bbox: Xyxy,
    /// Which of the objects of its picture it stands for; none is background.
    pub object: Option<usize>,
}

/// The regions of a picture that count, those that stand for objects first. The objects themselves are
/// among the proposals.
pub fn sample_regions(
    proposals: &[Xyxy],
    objects: &[Xyxy],
    sampler: &RandomSampler,
    rng: &mut StdRng,
) -> Vec<SampledRegion> {
    let assigned = ASSIGNER.assign(proposals, objects).with_ground_truth(objects.len());
    let sample = sampler.sample(&assigned.matches, rng);
    let region = |&i: &usize| SampledRegion {
        bbox: if i < objects.len() { objects[i] } else { proposals[i - objects.len()] },
        object: match assigned.matches[i] {
            Match::Object(object) => Some(object),
            _ => None,
        },
    };
    sample.positive.iter().chain(&sample.negative).map(region).collect()
}

/// What a region has to say of its box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxTarget {
    /// Class; the number of classes is background.
    pub label: usize,
    /// From the region to the box of its object.
    pub deltas: Option<Deltas>,
}

/// Of the sampled regions of a picture.
///
/// # Shapes
/// - regions, output: `[regions]`
///
/// # Panics
/// If a label is no class.
pub fn box_targets(
    regions: &[SampledRegion],
    truth: &GroundTruth,
    num_classes: usize,
) -> Vec<BoxTarget> {
    let target = |region: &SampledRegion| {
        let Some(object) = region.object else {
            return BoxTarget { label: num_classes, deltas: None };
        };
        let label = truth.labels[object];
        assert!(label < num_classes, "got label {label}, expected one of {num_classes}");
        let deltas = BoxCoder::REGIONS.encode(region.bbox, truth.boxes[object]);
        BoxTarget { label, deltas: Some(deltas) }
    };
    regions.iter().map(target).collect()
}

/// The losses of the head of boxes under mmdetection's names. `[1]`
#[derive(Clone, Debug)]
pub struct BoxLosses {
    /// Mean cross entropy of the classes.
    pub loss_cls: Tensor<1>,
    /// L1 of the deltas of the right class, over the number of all regions.
    pub loss_bbox: Tensor<1>,
}

/// # Panics
/// If there is no region, or not as many targets as regions.
pub fn box_losses(output: BoxOutput, targets: &[BoxTarget]) -> BoxLosses {
    let BoxOutput { cls_score, bbox_pred } = output;
    let [rois, columns] = cls_score.dims();
    assert_eq!(targets.len(), rois, "box_losses: got {} targets, expected {rois}", targets.len());
    assert!(rois > 0, "box_losses: got no region, expected one");
    let device = cls_score.device();
    let labels: Vec<usize> = targets.iter().map(|target| target.label).collect();
    let classes = columns - 1;
    let (mut places, mut deltas) = (Vec::new(), Vec::new());
    for (roi, target) in targets.iter().enumerate() {
        if let Some(target_deltas) = target.deltas {
            places.push((roi * classes + target.label) as i64);
            deltas.push(target_deltas);
        }
    }
    let loss_bbox = match places.is_empty() {
        true => Tensor::zeros([1], &device),
        false => {
            let found = bbox_pred.reshape([-1, 4]).select(0, indices(&places, &device)); // [objects, 4]
            l1_loss(found, delta_rows(&deltas, &device)).sum() / rois as f64
        }
    };
    BoxLosses { loss_cls: softmax_cross_entropy(cls_score, &labels).mean(), loss_bbox }
}
