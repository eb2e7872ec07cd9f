//! What is known of a step and of an epoch once they are over.

use serde::{Deserialize, Serialize};

/// Where training stands after a step.
#[derive(Clone, Copy, Debug)]
pub struct StepMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Epochs of the run.
    pub epochs: usize,
    /// Counted from 1, within the epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean over the epoch so far.
    pub loss: f64,
    /// Share of pictures, or of their pixels, that were right in the epoch so far; detection has none.
    pub accuracy: Option<f64>,
    /// Learning rate of the step.
    pub lr: f64,
    /// Training pictures a second in this epoch.
    pub images_per_second: f64,
}

/// One line of `results.csv` and `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean over the epoch, with label smoothing.
    pub train_loss: f64,
    /// What the task measures.
    #[serde(flatten)]
    pub scores: Scores,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Training pictures a second, validation aside.
    pub images_per_second: f64,
    /// Time since the start of the run.
    pub seconds: f64,
    /// Unreadable pictures in training and validation.
    pub skipped: usize,
    /// Pictures that the validation saw.
    pub val_images: usize,
}

/// What a task measures; in files, the names of the fields are those of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scores {
    /// Of whole pictures.
    Classification {
        /// Accuracy on the augmented pictures of the epoch.
        train_top1: f64,
        /// Mean on the validation set, without label smoothing.
        val_loss: f64,
        /// Accuracy on the validation set.
        val_top1: f64,
        /// Share of validation pictures with their class among the five best.
        val_top5: f64,
    },
    /// Of pixels, under mmsegmentation's names.
    Segmentation {
        /// Share of labelled pixels that were right, on the augmented pictures of the epoch.
        train_acc_seg: f64,
        /// Mean intersection over union on the validation set.
        #[serde(rename = "val_mIoU")]
        val_mean_iou: f64,
        /// Mean over the classes of the share of their pixels that was found.
        #[serde(rename = "val_mAcc")]
        val_mean_accuracy: f64,
        /// Share of all labelled pixels that were right.
        #[serde(rename = "val_aAcc")]
        val_pixel_accuracy: f64,
    },
    /// Of things with their masks, under mmdetection's names.
    Instances {
        /// Average precision of boxes, the mean over IoU thresholds from 0.5 to 0.95.
        #[serde(rename = "val_bbox_mAP")]
        val_bbox_map: f64,
        /// At an IoU of 0.5.
        #[serde(rename = "val_bbox_mAP_50")]
        val_bbox_map_50: f64,
        /// At an IoU of 0.75.
        #[serde(rename = "val_bbox_mAP_75")]
        val_bbox_map_75: f64,
        /// Of masks, as of boxes.
        #[serde(rename = "val_segm_mAP")]
        val_segm_map: f64,
        /// At an IoU of 0.5.
        #[serde(rename = "val_segm_mAP_50")]
        val_segm_map_50: f64,
        /// At an IoU of 0.75.
        #[serde(rename = "val_segm_mAP_75")]
        val_segm_map_75: f64,
    },
    /// Of boxes around things, under mmdetection's names. (Read after the former, whose names these are, too.)
    Detection {
        /// Average precision, the mean over IoU thresholds from 0.5 to 0.95.
        #[serde(rename = "val_bbox_mAP")]
        val_bbox_map: f64,
        /// At an IoU of 0.5.
        #[serde(rename = "val_bbox_mAP_50")]
        val_bbox_map_50: f64,
        /// At an IoU of 0.75.
        #[serde(rename = "val_bbox_mAP_75")]
        val_bbox_map_75: f64,
    },
}

impl EpochMetrics {
    /// What the best epoch has most of: `val_top1`, `val_mIoU` or `val_bbox_mAP`.
    pub fn score(&self) -> f64 {
        match self.scores {
            Scores::Classification { val_top1, .. } => val_top1,
            Scores::Segmentation { val_mean_iou, .. } => val_mean_iou,
            Scores::Detection { val_bbox_map, .. } | Scores::Instances { val_bbox_map, .. } => {
                val_bbox_map
            }
        }
    }

    /// Names and cells of a line of `results.csv`.
    pub(super) fn columns(&self) -> Vec<(&'static str, String)> {
        let mut columns = vec![
            ("epoch", self.epoch.to_string()),
            ("train_loss", format!("{:.5}", self.train_loss)),
        ];
        columns.extend(self.scores.named().into_iter().map(|(name, value)| match name {
            "val_loss" => (name, format!("{value:.5}")),
            _ => (name, format!("{value:.4}")),
        }));
        columns.extend([
            ("lr", format!("{:.3e}", self.lr)),
            ("images_per_second", format!("{:.1}", self.images_per_second)),
            ("seconds", format!("{:.1}", self.seconds)),
            ("skipped", self.skipped.to_string()),
            ("val_images", self.val_images.to_string()),
        ]);
        columns
    }
}

impl Scores {
    /// Names and values, in the order of the columns.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::Classification { train_top1, val_loss, val_top1, val_top5 } => vec![
                ("train_top1", train_top1),
                ("val_loss", val_loss),
                ("val_top1", val_top1),
                ("val_top5", val_top5),
            ],
            Self::Segmentation {
                train_acc_seg,
                val_mean_iou,
                val_mean_accuracy,
                val_pixel_accuracy,
            } => vec![
                ("train_acc_seg", train_acc_seg),
                ("val_mIoU", val_mean_iou),
                ("val_mAcc", val_mean_accuracy),
                ("val_aAcc", val_pixel_accuracy),
            ],
            Self::Detection { val_bbox_map, val_bbox_map_50, val_bbox_map_75 } => vec![
                ("val_bbox_mAP", val_bbox_map),
                ("val_bbox_mAP_50", val_bbox_map_50),
                ("val_bbox_mAP_75", val_bbox_map_75),
            ],
            Self::Instances {
                val_bbox_map,
                val_bbox_map_50,
                val_bbox_map_75,
                val_segm_map,
                val_segm_map_50,
                val_segm_map_75,
            } => vec![
                ("val_bbox_mAP", val_bbox_map),
                ("val_bbox_mAP_50", val_bbox_map_50),
                ("val_bbox_mAP_75", val_bbox_map_75),
                ("val_segm_mAP", val_segm_map),
                ("val_segm_mAP_50", val_segm_map_50),
                ("val_segm_mAP_75", val_segm_map_75),
            ],
        }
    }
}
