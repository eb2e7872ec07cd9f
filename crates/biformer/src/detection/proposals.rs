//! Region proposals: the boxes that anchors hold, of which the second stage looks at the best.

use super::box_coder::BoxCoder;
use super::boxes::{Xyxy, area, clip};
use super::detections::{finite_values, sigmoid};
use super::ground_truth::PictureSize;
use super::nms::{NmsOptions, nms};
use super::rpn_head::{RpnHead, RpnOutput};
use crate::Result;

/// Which boxes are proposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProposalOptions {
    /// Boxes of each level, the best, before suppression.
    pub nms_pre: usize,
    /// Within each level; then how many of a picture.
    pub nms: NmsOptions,
}

impl ProposalOptions {
    /// Of training.
    pub const TRAIN: Self =
        Self { nms_pre: 2000, nms: NmsOptions { iou_threshold: 0.7, max: 1000 } };

    /// Of testing.
    pub const TEST: Self =
        Self { nms_pre: 1000, nms: NmsOptions { iou_threshold: 0.7, max: 1000 } };
}

/// A box that may hold an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// In pixels of the resized picture, within it and with an area.
    pub bbox: Xyxy,
    /// How likely it does, from 0 to 1.
    pub score: f32,
}

impl RpnHead {
    /// The boxes that each picture of a batch is proposed to have, best first. They carry no gradient.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if the outputs are no numbers.
    ///
    /// # Panics
    /// If there are not as many pictures as sizes.
    pub fn proposals(
        &self,
        output: &RpnOutput,
        sizes: &[PictureSize],
        options: &ProposalOptions,
    ) -> Result<Vec<Vec<Proposal>>> {
        let [batch, ..] = output.logits[0].dims();
        assert_eq!(sizes.len(), batch, "got {} sizes, expected {batch}", sizes.len());
        let levels = self.anchors.grid_anchors(&output.sizes());
        let logits = output.logits.iter().map(finite_values).collect::<Result<Vec<_>>>()?;
        let deltas = output.deltas.iter().map(finite_values).collect::<Result<Vec<_>>>()?;
        let of_picture = |(picture, size): (usize, &PictureSize)| {
            let size = size.resized.map(|side| side as f32);
            let (mut boxes, mut scores, mut groups) = (Vec::new(), Vec::new(), Vec::new());
            for (level, anchors) in levels.iter().enumerate() {
                let count = anchors.len();
                let logits = &logits[level][picture * count..][..count];
                let (deltas, _) = deltas[level][picture * count * 4..][..count * 4].as_chunks();
                for place in best(logits, options.nms_pre) {
                    let bbox = clip(BoxCoder::UNIT.decode(anchors[place], deltas[place]), size);
                    if area(bbox) > 0.0 {
                        boxes.push(bbox);
                        scores.push(sigmoid(logits[place]));
                        groups.push(level);
                    }
                }
            }
            let kept = nms(&boxes, &scores, &groups, options.nms).into_iter();
            kept.map(|i| Proposal { bbox: boxes[i], score: scores[i] }).collect()
        };
        Ok(sizes.iter().enumerate().map(of_picture).collect())
    }
}

/// Where the `count` largest numbers are, largest first; of equal ones, the first.
fn best(values: &[f32], count: usize) -> Vec<usize> {
    let order = |&a: &usize, &b: &usize| values[b].total_cmp(&values[a]).then(a.cmp(&b));
    let mut places: Vec<usize> = (0..values.len()).collect();
    if count < places.len() {
        places.select_nth_unstable_by(count, order);
        places.truncate(count);
    }
    places.sort_unstable_by(order);
    places
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_best_come_in_order() {
        let values = [0.5, 2.0, -1.0, 2.0, 0.7];
        assert_eq!(best(&values, 3), [1, 3, 4]);
        assert_eq!(best(&values, 9), [1, 3, 4, 0, 2]);
        assert!(best(&values, 0).is_empty() && best(&[], 2).is_empty());
    }
}
