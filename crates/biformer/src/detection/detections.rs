//! Things found in a picture, and which of many candidates they are.

use super::boxes::Xyxy;
use super::nms::{NmsOptions, nms};

/// A thing found in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Where, in pixels of the original picture.
    pub bbox: Xyxy,
    /// How sure, from 0 to 1.
    pub score: f32,
    /// Its class.
    pub label: usize,
}

/// What becomes of the boxes of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectOptions {
    /// Scores that are not above it are dropped.
    pub score_threshold: f32,
    /// IoU with a better box of the same class above which a box is dropped.
    pub iou_threshold: f32,
    /// Detections in a picture, at most.
    pub max_per_image: usize,
}

impl Default for DetectOptions {
    /// Those of the official tests.
    fn default() -> Self {
        Self { score_threshold: 0.05, iou_threshold: 0.5, max_per_image: 100 }
    }
}

/// Boxes of a picture that are above the threshold, before suppression.
#[derive(Debug)]
pub(super) struct Candidates {
    options: DetectOptions,
    boxes: Vec<Xyxy>,
    scores: Vec<f32>,
    labels: Vec<usize>,
}

impl Candidates {
    /// None yet.
    pub fn new(options: DetectOptions) -> Self {
        Self { options, boxes: Vec::new(), scores: Vec::new(), labels: Vec::new() }
    }

    /// Takes a box of the original picture in, if its score is above the threshold.
    pub fn push(&mut self, bbox: Xyxy, score: f32, label: usize) {
        if score > self.options.score_threshold {
            self.boxes.push(bbox);
            self.scores.push(score);
            self.labels.push(label);
        }
    }

    /// What is left after suppression of each class, best first.
    pub fn into_detections(self) -> Vec<Detection> {
        let Self { options, boxes, scores, labels } = self;
        let options =
            NmsOptions { iou_threshold: options.iou_threshold, max: options.max_per_image };
        let kept = nms(&boxes, &scores, &labels, options).into_iter();
        kept.map(|i| Detection { bbox: boxes[i], score: scores[i], label: labels[i] }).collect()
    }
}
