//! Object detection (paper §4.2, Table 3): boxes around things and what they are, by RetinaNet on the maps C3–C5.
//! Anchors, assignment, losses and heads are those of mmdetection 2.11, in whose files official
//! weights come.
//!
//! What has no gradient, such as boxes, anchors, assignment and suppression, is plain `f32` on the processor.

mod anchors;
mod assigner;
mod average_precision;
mod box_coder;
mod boxes;
mod coco_scores;
mod matching;
mod nms;
mod precision_recall;
mod report;
mod result_files;
mod sampler;

pub use anchors::{AnchorGenerator, grid};
pub use assigner::{Assignment, Match, MaxIouAssigner};
pub use average_precision::{AveragePrecision, FoundInstance, IouType};
pub use box_coder::{BoxCoder, Deltas};
pub use boxes::{Xyxy, area, clip, generalized_iou, iou};
pub use coco_scores::{ClassScores, CocoScores};
pub use nms::{NmsOptions, by_score, nms};
pub use report::write_per_class_csv;
pub use result_files::evaluate_results;
pub use sampler::{RandomSampler, Sample};
