//! Things found in a picture, and which of many candidates they are.

use burn::tensor::Tensor;

use super::boxes::Xyxy;
use super::nms::{NmsOptions, nms};
use crate::data::detection::Rle;
use crate::{Error, Result};

/// A thing found in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Where, in pixels of the original picture.
    pub bbox: Xyxy,
    /// How sure, from 0 to 1.
    pub score: f32,
    /// Its class.
    pub label: usize,
    /// Its pixels in the original picture, if the method draws them.
    pub mask: Option<Rle>,
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

    /// Takes a box in, if its score is above the threshold.
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
        let detection =
            |i: usize| Detection { bbox: boxes[i], score: scores[i], label: labels[i], mask: None };
        kept.map(detection).collect()
    }
}

/// The numbers of an output, row by row.
///
/// # Errors
/// [`Error::Option`] if some are none.
pub(super) fn finite_values<const D: usize>(output: &Tensor<D>) -> Result<Vec<f32>> {
    let values: Vec<f32> = output.to_data_as::<f32>().try_into_vec().expect("float32 outputs");
    if values.iter().all(|value| value.is_finite()) {
        return Ok(values);
    }
    let reason = "gives outputs that are no numbers (NaN or infinite); its weights are broken";
    Err(Error::option("model", reason))
}

pub(super) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
