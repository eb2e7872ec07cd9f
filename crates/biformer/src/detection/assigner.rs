//! Which anchor stands for which object (mmdetection's `MaxIoUAssigner`).

use super::boxes::{Xyxy, iou};

/// What an anchor or a proposal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Neither an object nor background: it does not count.
    Ignored,
    /// No object.
    Background,
    /// The object with this index.
    Object(usize),
}

/// Where objects, background and what lies between begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxIouAssigner {
    /// Least IoU with an object to stand for it.
    pub positive: f32,
    /// IoU with all objects below which it is background.
    pub negative: f32,
    /// Least IoU of an object's best anchors to stand for it even if they are below `positive`; without it
    /// they do not.
    pub low_quality: Option<f32>,
}

impl MaxIouAssigner {
    /// RetinaNet's; every object has an anchor.
    pub const RETINANET: Self = Self { positive: 0.5, negative: 0.4, low_quality: Some(0.0) };

    /// Of region proposals.
    pub const RPN: Self = Self { positive: 0.7, negative: 0.3, low_quality: Some(0.3) };

    /// Of the heads of Mask R-CNN.
    pub const REGIONS: Self = Self { positive: 0.5, negative: 0.5, low_quality: None };

    /// What each of `boxes` stands for: the object that it shares most with, the first of several.
    /// An object's best boxes stand for it in any case, see [`low_quality`](Self::low_quality); what is the best
    /// of several objects stands for the last.
    pub fn assign(&self, boxes: &[Xyxy], objects: &[Xyxy]) -> Assignment {
        let mut max_overlaps = vec![0.0; boxes.len()];
        let mut matches = Vec::with_capacity(boxes.len());
        let mut best_of_object = vec![0.0; objects.len()];
        for (&anchor, max_overlap) in boxes.iter().zip(&mut max_overlaps) {
            let mut nearest = 0;
            for (object, (&truth, best)) in objects.iter().zip(&mut best_of_object).enumerate() {
                let overlap = iou(truth, anchor);
                if overlap > *max_overlap {
                    (*max_overlap, nearest) = (overlap, object);
                }
                *best = overlap.max(*best);
            }
            matches.push(match *max_overlap {
                overlap if overlap >= self.positive => Match::Object(nearest),
                overlap if overlap < self.negative => Match::Background,
                _ => Match::Ignored,
            });
        }
        if let Some(least) = self.low_quality {
            for (object, (&truth, best)) in objects.iter().zip(best_of_object).enumerate() {
                // An object that no box touches is nobody's; in mmdetection all that touch nothing would
                // stand for it where `least` is 0.
                if best == 0.0 || best < least {
                    continue;
                }
                for (&anchor, found) in boxes.iter().zip(&mut matches) {
                    if iou(truth, anchor) == best {
                        *found = Match::Object(object);
                    }
                }
            }
        }
        Assignment { matches, max_overlaps }
    }
}

/// What [`MaxIouAssigner::assign`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// What each box stands for.
    pub matches: Vec<Match>,
    /// IoU of each box with the object that it shares most with; 0 without objects.
    pub max_overlaps: Vec<f32>,
}

impl Assignment {
    /// With `objects` in front that stand for themselves: ground truth among the proposals.
    pub fn with_ground_truth(self, objects: usize) -> Self {
        Self {
            matches: (0..objects).map(Match::Object).chain(self.matches).collect(),
            max_overlaps: std::iter::repeat_n(1.0, objects).chain(self.max_overlaps).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_objects_all_is_background() {
        let boxes = [[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 6.0]];
        let found = MaxIouAssigner::RETINANET.assign(&boxes, &[]);
        assert_eq!(found.matches, [Match::Background; 2]);
        assert_eq!(found.max_overlaps, [0.0; 2]);
        assert!(MaxIouAssigner::RPN.assign(&[], &boxes).matches.is_empty());
    }

    #[test]
    fn an_object_that_nothing_touches_has_no_anchor() {
        let boxes = [[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 6.0, 6.0]];
        let objects = [[90.0, 90.0, 94.0, 94.0], [3.0, 3.0, 3.0, 3.0]];
        let found = MaxIouAssigner::RETINANET.assign(&boxes, &objects);
        assert_eq!(found.matches, [Match::Background; 2]);
    }

    #[test]
    fn the_best_box_stands_for_its_object_even_if_it_is_poor() {
        let boxes = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]];
        let objects = [[0.0, 0.0, 3.0, 10.0], [20.0, 0.0, 29.0, 10.0]];
        let found = MaxIouAssigner::RETINANET.assign(&boxes, &objects);
        assert_eq!(found.matches, [Match::Object(0), Match::Object(1)]);
        let strict = MaxIouAssigner::REGIONS.assign(&boxes, &objects);
        assert_eq!(strict.matches, [Match::Background, Match::Object(1)]);
        let with_truth = strict.with_ground_truth(2).matches;
        assert_eq!(with_truth[..2], [Match::Object(0), Match::Object(1)]);
        assert_eq!(with_truth.len(), 4);
    }
}
