//! Non-maximum suppression: of boxes that show the same thing, the best.

use super::boxes::{Xyxy, iou};

/// What [`nms`] keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NmsOptions {
    /// IoU with a better box of the same group above which a box is dropped.
    pub iou_threshold: f32,
    /// Boxes kept at most.
    pub max: usize,
}

/// The indices of the boxes that are kept, best first; of the same score, the one that comes first.
///
/// Only boxes of the same group (a class, or a level of a pyramid) drop each other. mmcv's
/// `batched_nms` moves groups apart for that, which costs digits; here nothing is moved.
///
/// # Shapes
/// - boxes, scores, groups: `[boxes]`
///
/// # Panics
/// If the three differ in length.
pub fn nms(boxes: &[Xyxy], scores: &[f32], groups: &[usize], options: NmsOptions) -> Vec<usize> {
    let (found, expected) = ([scores.len(), groups.len()], [boxes.len(); 2]);
    assert_eq!(found, expected, "nms: got {found:?} scores and groups, expected {expected:?}");
    let mut kept_of_group = vec![Vec::new(); groups.iter().max().map_or(0, |group| group + 1)];
    let mut kept = Vec::new();
    for i in by_score(scores) {
        if kept.len() == options.max {
            break;
        }
        let better: &mut Vec<Xyxy> = &mut kept_of_group[groups[i]];
        if better.iter().all(|&other| iou(other, boxes[i]) <= options.iou_threshold) {
            better.push(boxes[i]);
            kept.push(i);
        }
    }
    kept
}

/// Indices of scores, best first; equal ones in their order.
pub fn by_score(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_a_group_is_kept() {
        let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [30.0, 0.0, 40.0, 10.0]];
        let options = NmsOptions { iou_threshold: 0.5, max: 10 };
        let scores = [0.5, 0.9, 0.5];
        assert_eq!(nms(&boxes, &scores, &[0, 0, 0], options), [1, 2]);
        assert_eq!(nms(&boxes, &scores, &[0, 1, 0], options), [1, 0, 2]);
        assert_eq!(nms(&boxes, &scores, &[0, 1, 0], NmsOptions { max: 2, ..options }), [1, 0]);
        assert!(nms(&[], &[], &[], options).is_empty());
    }
}
