//! Object detection (paper §4.2, Table 3): boxes around things and what they are, by RetinaNet on the maps C3–C5.
//! Anchors, assignment, losses and heads are those of mmdetection 2.11, in whose files official
//! weights come.
//!
//! What has no gradient, such as boxes, anchors, assignment and suppression, is plain `f32` on the processor.

mod anchor_targets;
mod anchors;
mod assigner;
mod average_precision;
mod batch;
mod box_coder;
mod boxes;
mod checkpoint;
mod coco_classes;
mod coco_scores;
mod detections;
mod evaluate;
mod ground_truth;
mod inference;
mod losses;
mod matching;
mod model;
mod nms;
mod precision_recall;
mod report;
mod result_files;
mod retina_detections;
mod retina_head;
mod retina_losses;
mod sampler;

pub use anchor_targets::match_anchors;
pub use anchors::{AnchorGenerator, grid};
pub use assigner::{Assignment, Match, MaxIouAssigner};
pub use average_precision::{AveragePrecision, FoundInstance, IouType};
pub use batch::batch_tensors;
pub use box_coder::{BoxCoder, Deltas};
pub use boxes::{Xyxy, area, clip, generalized_iou, iou};
pub(crate) use checkpoint::holds_detector;
pub use checkpoint::{
    DetectorInfo, LoadDetectorOptions, LoadedDetector, is_detector, load_detector, save_detector,
};
pub use coco_classes::COCO_CLASSES;
pub use coco_scores::{ClassScores, CocoScores};
pub use detections::{DetectOptions, Detection};
pub use evaluate::{Detected, DetectedBatch, evaluate};
pub use ground_truth::{GroundTruth, PictureSize};
pub use inference::{Inference, MAX_MODEL_PIXELS, detect};
pub use losses::{FocalLoss, l1_loss, smooth_l1_loss};
pub use model::{
    DetectionLosses, Detector, DetectorConfig, DetectorHeads, DetectorHeadsConfig, METHOD_NAMES,
};
pub use nms::{NmsOptions, by_score, nms};
pub use report::write_per_class_csv;
pub use result_files::evaluate_results;
pub use retina_head::{RetinaHead, RetinaHeadConfig, RetinaOutput};
pub use retina_losses::RetinaLosses;
pub use sampler::{RandomSampler, Sample};
