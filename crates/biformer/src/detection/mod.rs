//! Object detection (paper §4.2, Table 3): boxes around things and what they are, by RetinaNet on the maps C3–C5.
//! Anchors, assignment, losses and heads are those of mmdetection 2.11, in whose files official
//! weights come.
//!
//! What has no gradient, such as boxes, anchors, assignment and suppression, is plain `f32` on the processor.

mod anchors;
mod assigner;
mod box_coder;
mod boxes;
mod nms;
mod sampler;

pub use anchors::{AnchorGenerator, grid};
pub use assigner::{Assignment, Match, MaxIouAssigner};
pub use box_coder::{BoxCoder, Deltas};
pub use boxes::{Xyxy, area, clip, generalized_iou, iou};
pub use nms::{NmsOptions, by_score, nms};
pub use sampler::{RandomSampler, Sample};
