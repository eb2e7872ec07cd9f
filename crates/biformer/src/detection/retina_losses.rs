//! What RetinaNet learns from: focal loss of the classes of all anchors, L1 loss of the deltas of those that stand
//! for an object.

use burn::tensor::{Device, Tensor, TensorData};

use super::anchor_targets::match_anchors;
use super::assigner::{Match, MaxIouAssigner};
use super::box_coder::BoxCoder;
use super::boxes::Xyxy;
use super::ground_truth::GroundTruth;
use super::losses::{FocalLoss, l1_loss};
use super::retina_head::{RetinaHead, RetinaOutput};

/// The losses of each level, finest first, under mmdetection's names. `[1]` each
#[derive(Clone, Debug)]
pub struct RetinaLosses {
    /// Of the classes.
    pub loss_cls: Vec<Tensor<1>>,
    /// Of the boxes.
    pub loss_bbox: Vec<Tensor<1>>,
}

impl RetinaHead {
    /// The losses of a batch, divided by the anchors that stand for objects, at least one a picture.
    ///
    /// # Panics
    /// If there are not as many pictures as truths, or a label is no class.
    pub fn losses(&self, output: &RetinaOutput, truths: &[GroundTruth]) -> RetinaLosses {
        let [batch, ..] = output.logits[0].dims();
        assert_eq!(truths.len(), batch, "got {} truths, expected {batch}", truths.len());
        let sizes = output.sizes();
        let assigner = MaxIouAssigner::RETINANET;
        let matches: Vec<Vec<Vec<Match>>> = truths
            .iter()
            .map(|truth| match_anchors(&self.anchors, &sizes, &assigner, truth))
            .collect(); // [pictures, levels, anchors]
        let objects = |levels: &Vec<Vec<Match>>| {
            let all = levels.iter().flatten();
            all.filter(|found| matches!(found, Match::Object(_))).count().max(1)
        };
        let average_factor = matches.iter().map(objects).sum::<usize>() as f64;
        let device = output.logits[0].device();
        let (mut loss_cls, mut loss_bbox) = (Vec::new(), Vec::new());
        for (level, anchors) in self.anchors.grid_anchors(&sizes).iter().enumerate() {
            let targets = LevelTargets::new(
                anchors,
                truths.iter().zip(matches.iter().map(|levels| levels[level].as_slice())),
                self.num_classes(),
            );
            let [classes, deltas] = [(&output.logits, self.num_classes()), (&output.deltas, 4)]
                .map(|(maps, width)| maps[level].clone().reshape([batch * anchors.len(), width]));
            let [cls, bbox] = targets.losses(classes, deltas, &device);
            loss_cls.push(cls / average_factor);
            loss_bbox.push(bbox / average_factor);
        }
        RetinaLosses { loss_cls, loss_bbox }
    }
}

/// What the anchors of one level ought to say, picture after picture.
#[derive(Default)]
struct LevelTargets {
    /// 1 for the class of each anchor, `[anchors, num_classes]`.
    classes: Vec<f32>,
    /// Whether the classes count, `[anchors]`.
    counts: Vec<f32>,
    /// `[anchors, 4]`
    deltas: Vec<f32>,
    /// Whether the deltas count, `[anchors]`.
    is_object: Vec<f32>,
}

impl LevelTargets {
    fn new<'a>(
        anchors: &[Xyxy],
        pictures: impl Iterator<Item = (&'a GroundTruth, &'a [Match])>,
        num_classes: usize,
    ) -> Self {
        let mut targets = Self::default();
        for (truth, matches) in pictures {
            for (&anchor, found) in anchors.iter().zip(matches) {
                let first = targets.classes.len();
                targets.classes.resize(first + num_classes, 0.0);
                targets.counts.push(if *found == Match::Ignored { 0.0 } else { 1.0 });
                let Match::Object(object) = *found else {
                    targets.deltas.extend([0.0; 4]);
                    targets.is_object.push(0.0);
                    continue;
                };
                let label = truth.labels[object];
                assert!(label < num_classes, "got label {label}, expected one of {num_classes}");
                targets.classes[first + label] = 1.0;
                targets.deltas.extend(BoxCoder::UNIT.encode(anchor, truth.boxes[object]));
                targets.is_object.push(1.0);
            }
        }
        targets
    }

    /// Sums over the level, of classes and of deltas.
    ///
    /// # Shapes
    /// - classes: `[anchors, num_classes]`
    /// - deltas: `[anchors, 4]`
    fn losses(self, classes: Tensor<2>, deltas: Tensor<2>, device: &Device) -> [Tensor<1>; 2] {
        let tensor = |values: Vec<f32>, width: usize| {
            let rows = values.len() / width;
            Tensor::<2>::from_data(TensorData::new(values, [rows, width]), device)
        };
        let [_, num_classes] = classes.dims();
        let focal = FocalLoss::RETINANET.forward(classes, tensor(self.classes, num_classes));
        let l1 = l1_loss(deltas, tensor(self.deltas, 4));
        [(focal * tensor(self.counts, 1)).sum(), (l1 * tensor(self.is_object, 1)).sum()]
    }
}
