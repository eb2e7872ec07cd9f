//! What the head of region proposals learns: which anchors hold an object, and the way from those to its box.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;

use super::anchor_targets::match_anchors;
use super::assigner::{Match, MaxIouAssigner};
use super::box_coder::{BoxCoder, Deltas};
use super::ground_truth::GroundTruth;
use super::losses::{l1_loss, sigmoid_cross_entropy};
use super::rpn_head::{RpnHead, RpnOutput};
use super::sampler::RandomSampler;

/// The losses of each level, finest first, under mmdetection's names. `[1]` each
#[derive(Clone, Debug)]
pub struct RpnLosses {
    /// Cross entropy of whether anchors hold an object.
    pub loss_rpn_cls: Vec<Tensor<1>>,
    /// L1 of the deltas of those that do.
    pub loss_rpn_bbox: Vec<Tensor<1>>,
}

impl RpnHead {
    /// The losses of a batch, divided by the number of anchors that the sampler took: of objects and of
    /// background, at least one of each kind a picture.
    ///
    /// # Shapes
    /// - truths, rngs: `[batch]`, each picture with draws of its own
    ///
    /// # Panics
    /// If there are not as many pictures as truths and draws.
    pub fn losses(
        &self,
        output: &RpnOutput,
        truths: &[GroundTruth],
        sampler: &RandomSampler,
        rngs: &mut [StdRng],
    ) -> RpnLosses {
        let [batch, ..] = output.logits[0].dims();
        let found = [truths.len(), rngs.len()];
        assert_eq!(found, [batch; 2], "got {found:?} truths and draws, expected {batch} of each");
        let sizes = output.sizes();
        let anchors = self.anchors.grid_anchors(&sizes);
        let (mut taken, mut levels) = (0, vec![LevelTargets::default(); anchors.len()]);
        for (picture, (truth, rng)) in truths.iter().zip(rngs).enumerate() {
            let matches = match_anchors(&self.anchors, &sizes, &MaxIouAssigner::RPN, truth);
            let sample = sampler.sample(&matches.concat(), rng);
            taken += sample.positive.len().max(1) + sample.negative.len().max(1);
            for mut place in sample.positive.into_iter().chain(sample.negative) {
                let mut level = 0;
                while place >= anchors[level].len() {
                    place -= anchors[level].len();
                    level += 1;
                }
                let targets = &mut levels[level];
                let row = (picture * anchors[level].len() + place) as i64;
                let is_object = if let Match::Object(object) = matches[level][place] {
                    let target = truth.boxes[object];
                    targets.object_rows.push(row);
                    targets.deltas.push(BoxCoder::UNIT.encode(anchors[level][place], target));
                    1.0
                } else {
                    0.0
                };
                targets.rows.push(row);
                targets.is_object.push(is_object);
            }
        }
        let outputs = || output.logits.iter().zip(&output.deltas).zip(&levels);
        let taken = taken as f64;
        RpnLosses {
            loss_rpn_cls: outputs().map(|((logits, _), t)| t.cls(logits) / taken).collect(),
            loss_rpn_bbox: outputs().map(|((_, deltas), t)| t.bbox(deltas) / taken).collect(),
        }
    }
}

/// What the sampled anchors of a level ought to say, in all pictures.
#[derive(Clone, Default)]
struct LevelTargets {
    /// Where they are among the anchors of the level, picture after picture.
    rows: Vec<i64>,
    /// 1 or 0 for each of them.
    is_object: Vec<f32>,
    /// Where those of objects are.
    object_rows: Vec<i64>,
    /// For each of these.
    deltas: Vec<Deltas>,
}

impl LevelTargets {
    /// The sum of cross entropies, `[1]`.
    fn cls(&self, logits: &Tensor<4>) -> Tensor<1> {
        let device = logits.device();
        if self.rows.is_empty() {
            return Tensor::zeros([1], &device);
        }
        let logits = logits.clone().reshape([-1]).select(0, indices(&self.rows, &device)); // [rows]
        let targets = Tensor::<1>::from_floats(self.is_object.as_slice(), &device);
        sigmoid_cross_entropy(logits, targets).sum()
    }

    /// The sum of distances of deltas, `[1]`.
    fn bbox(&self, deltas: &Tensor<4>) -> Tensor<1> {
        let device = deltas.device();
        if self.object_rows.is_empty() {
            return Tensor::zeros([1], &device);
        }
        let rows = indices(&self.object_rows, &device);
        let found = deltas.clone().reshape([-1, 4]).select(0, rows); // [object_rows, 4]
        l1_loss(found, delta_rows(&self.deltas, &device)).sum()
    }
}

/// `[indices]`
pub(super) fn indices(indices: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(indices.to_vec(), [indices.len()]), device)
}

/// `[deltas, 4]`
pub(super) fn delta_rows(deltas: &[Deltas], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(deltas.concat(), [deltas.len(), 4]), device)
}
