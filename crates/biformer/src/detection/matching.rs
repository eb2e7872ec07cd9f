//! Which truth each detection of a picture takes.

use super::average_precision::{FoundInstance, IouType};
use crate::data::detection::{Instance, Rle};

/// How the detections of a class in a picture meet its truths.
pub(super) struct Overlaps {
    /// `[detections, truths]`: IoU, or with a crowd the share of the detection
    iou: Vec<Vec<f64>>,
    /// Whether a truth can be taken more than once.
    is_crowd: Vec<bool>,
    /// Pixels of each detection.
    pub areas: Vec<f64>,
}

impl Overlaps {
    pub fn new(
        iou_type: IouType,
        size: [u32; 2],
        truths: &[&Instance],
        found: &[&FoundInstance],
    ) -> Self {
        let is_crowd: Vec<bool> = truths.iter().map(|truth| truth.is_crowd).collect();
        let (iou, areas) = match iou_type {
            IouType::Bbox => {
                let row = |found: &&FoundInstance| {
                    let iou = |truth: &&Instance| box_iou(found.bbox, truth.bbox, truth.is_crowd);
                    truths.iter().map(iou).collect()
                };
                let area = |found: &&FoundInstance| found.bbox[2] * found.bbox[3];
                (found.iter().map(row).collect(), found.iter().map(area).collect())
            }
            IouType::Segm => {
                let masks: Vec<Rle> = truths.iter().map(|truth| truth.mask(size)).collect();
                let mask = |found: &&FoundInstance| {
                    found.mask.clone().expect("expected a mask of each detection, got: none")
                };
                let found: Vec<Rle> = found.iter().map(mask).collect();
                let row = |found: &Rle| {
                    let pairs = masks.iter().zip(&is_crowd);
                    pairs.map(|(truth, &is_crowd)| found.iou(truth, is_crowd)).collect()
                };
                let area = |found: &Rle| found.area() as f64;
                (found.iter().map(row).collect(), found.iter().map(area).collect())
            }
        };
        Self { iou, is_crowd, areas }
    }
}

/// For each detection, in their order, the truth that it takes: of those free whose IoU reaches
/// `threshold` the one with the greatest, one that is not `ignored` before one that is; of equals the
/// last.
pub(super) fn match_greedily(
    overlaps: &Overlaps,
    ignored: &[bool],
    threshold: f64,
) -> Vec<Option<usize>> {
    // Boxes that are the same may miss an IoU of 1 by rounding.
    let threshold = threshold.min(1.0 - 1e-10);
    let mut is_taken = vec![false; ignored.len()];
    let take = |iou: &Vec<f64>| {
        let best = |of_ignored: bool| {
            let free = (0..ignored.len()).filter(|&truth| {
                ignored[truth] == of_ignored
                    && (!is_taken[truth] || overlaps.is_crowd[truth])
                    && iou[truth] >= threshold
            });
            free.max_by(|&a, &b| iou[a].total_cmp(&iou[b]))
        };
        let taken = best(false).or_else(|| best(true));
        taken.inspect(|&truth| is_taken[truth] = true)
    };
    overlaps.iou.iter().map(take).collect()
}

/// IoU of two boxes, or with a crowd the share of the first.
fn box_iou(found: [f64; 4], truth: [f64; 4], is_crowd: bool) -> f64 {
    let shared = |axis: usize| {
        let end = (found[axis] + found[axis + 2]).min(truth[axis] + truth[axis + 2]);
        end - found[axis].max(truth[axis])
    };
    let (width, height) = (shared(0), shared(1));
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let (intersection, area) = (width * height, found[2] * found[3]);
    intersection / if is_crowd { area } else { area + truth[2] * truth[3] - intersection }
}
