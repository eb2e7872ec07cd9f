//! Object detection and instance segmentation (paper §4.2, Table 3): boxes around things and what they are, by
//! RetinaNet on the maps C3–C5; by Mask R-CNN on C2–C5, with masks. Anchors, assignment, losses and heads are those
//! of mmdetection 2.11, in whose files official weights come.
//!
//! What has no gradient, such as boxes, anchors, assignment and suppression, is plain `f32` on the processor.

mod anchor_targets;
mod anchors;
mod assigner;
mod average_precision;
mod batch;
mod box_coder;
mod box_head;
mod box_targets;
mod boxes;
mod checkpoint;
mod coco_classes;
mod coco_scores;
mod detections;
mod evaluate;
mod ground_truth;
mod inference;
mod losses;
mod mask_head;
mod mask_rcnn;
mod mask_targets;
mod matching;
mod model;
mod nms;
mod paste_masks;
mod precision_recall;
mod proposals;
mod report;
mod result_files;
mod retina_detections;
mod retina_head;
mod retina_losses;
mod roi_extractor;
mod rpn_head;
mod rpn_losses;
mod sampler;

pub use crate::models::LoadDenseOptions;
pub use anchor_targets::match_anchors;
pub use anchors::{AnchorGenerator, grid};
pub use assigner::{Assignment, Match, MaxIouAssigner};
pub use average_precision::{AveragePrecision, FoundInstance, IouType};
pub use batch::batch_tensors;
pub use box_coder::{BoxCoder, Deltas};
pub use box_head::{BoxHead, BoxHeadConfig, BoxOutput, detected_boxes};
pub use box_targets::{
    BoxLosses, BoxTarget, SampledRegion, box_losses, box_targets, sample_regions,
};
pub use boxes::{Xyxy, area, clip, generalized_iou, iou};
pub(crate) use checkpoint::holds_detector;
pub use checkpoint::{DetectorInfo, LoadedDetector, is_detector, load_detector, save_detector};
pub use coco_classes::COCO_CLASSES;
pub use coco_scores::{ClassScores, CocoScores};
pub use detections::{DetectOptions, Detection};
pub use evaluate::{Detected, DetectedBatch, evaluate};
pub use ground_truth::{GroundTruth, PictureSize};
pub use inference::{Inference, MAX_MODEL_PIXELS, detect};
pub use losses::{
    FocalLoss, l1_loss, sigmoid_cross_entropy, smooth_l1_loss, softmax_cross_entropy,
};
pub use mask_head::{MaskClassifier, MaskHead, MaskHeadConfig};
pub use mask_rcnn::{MaskRcnnConfig, MaskRcnnHead, MaskRcnnLosses, RoiHead};
pub use mask_targets::{mask_loss, mask_targets, masks_of};
pub use model::{
    DetectionLosses, Detector, DetectorConfig, DetectorHeads, DetectorHeadsConfig, METHOD_NAMES,
};
pub use nms::{NmsOptions, by_score, nms};
pub use paste_masks::paste_mask;
pub use proposals::{Proposal, ProposalOptions};
pub use report::write_per_class_csv;
pub use result_files::evaluate_results;
pub use retina_head::{RetinaHead, RetinaHeadConfig, RetinaOutput};
pub use retina_losses::RetinaLosses;
pub use roi_extractor::RoiExtractor;
pub use rpn_head::{RpnHead, RpnHeadConfig, RpnOutput};
pub use rpn_losses::RpnLosses;
pub use sampler::{RandomSampler, Sample};
