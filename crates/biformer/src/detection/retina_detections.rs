//! What RetinaNet finds: of each level the best anchors, of these every class above the threshold.

use super::box_coder::{BoxCoder, Deltas};
use super::boxes::{Xyxy, clip};
use super::detections::{Candidates, DetectOptions, Detection, finite_values, sigmoid};
use super::ground_truth::PictureSize;
use super::nms::by_score;
use super::retina_head::{RetinaHead, RetinaOutput};
use crate::Result;

/// Anchors of a level whose classes are looked at (`nms_pre` of the official tests).
const BEST_ANCHORS: usize = 1000;

impl RetinaHead {
    /// The detections of each picture of a batch, best first.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if the outputs are no numbers.
    ///
    /// # Panics
    /// If there are not as many pictures as sizes.
    pub fn detections(
        &self,
        output: &RetinaOutput,
        sizes: &[PictureSize],
        options: &DetectOptions,
    ) -> Result<Vec<Vec<Detection>>> {
        let [batch, ..] = output.logits[0].dims();
        assert_eq!(sizes.len(), batch, "got {} sizes, expected {batch}", sizes.len());
        let mut pictures: Vec<Candidates> =
            sizes.iter().map(|_| Candidates::new(*options)).collect();
        let levels = self.anchors.grid_anchors(&output.sizes());
        for (anchors, (logits, deltas)) in
            levels.iter().zip(output.logits.iter().zip(&output.deltas))
        {
            let (logits, deltas) = (finite_values(logits)?, finite_values(deltas)?);
            let per_picture = logits
                .chunks_exact(logits.len() / batch)
                .zip(deltas.chunks_exact(deltas.len() / batch));
            let pictures = pictures.iter_mut().zip(sizes);
            for ((picture, size), (logits, deltas)) in pictures.zip(per_picture) {
                let logits: Vec<&[f32]> = logits.chunks_exact(self.num_classes()).collect();
                let level = Level { anchors, logits: &logits, deltas: deltas.as_chunks().0 };
                level.add_best(picture, *size, options.score_threshold);
            }
        }
        Ok(pictures.into_iter().map(Candidates::into_detections).collect())
    }
}

/// What the head says of the anchors of one level in one picture.
struct Level<'a> {
    anchors: &'a [Xyxy],
    /// `[anchors, num_classes]`
    logits: &'a [&'a [f32]],
    deltas: &'a [Deltas],
}

impl Level<'_> {
    /// Every class above the threshold of the best anchors.
    fn add_best(&self, candidates: &mut Candidates, size: PictureSize, score_threshold: f32) {
        let best = |logits: &&[f32]| logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let best: Vec<f32> = self.logits.iter().map(best).collect();
        let order = by_score(&best).into_iter().take(BEST_ANCHORS);
        for anchor in order.take_while(|&anchor| sigmoid(best[anchor]) > score_threshold) {
            let bbox = BoxCoder::UNIT.decode(self.anchors[anchor], self.deltas[anchor]);
            let bbox = size.to_original(clip(bbox, size.resized.map(|side| side as f32)));
            for (label, &logit) in self.logits[anchor].iter().enumerate() {
                candidates.push(bbox, sigmoid(logit), label);
            }
        }
    }
}
