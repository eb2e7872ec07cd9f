//! Semantic segmentation (paper §4.3, Table 4): a class for each pixel, by Semantic FPN or UPerNet on the
//! maps C2–C5, or by the linear probe that they must beat. Heads and losses are those of mmsegmentation
//! 0.30, in whose files official weights come.

mod baseline;
mod batch;
mod checkpoint;
mod evaluate;
mod fcn_head;
mod inference;
mod linear_head;
mod loss;
mod mean_iou;
mod model;
mod pixel_classifier;
mod report;
mod score_rows;
mod semantic_fpn;
mod upernet;
mod windows;

pub use crate::models::LoadDenseOptions;
pub use baseline::{majority_baseline, majority_class};
pub use batch::batch_tensors;
pub(crate) use checkpoint::holds_segmentor;
pub use checkpoint::{
    LoadedSegmentor, SegmentorInfo, is_segmentor, load_segmentor, save_segmentor,
};
pub use evaluate::{Segmented, SegmentedBatch, evaluate};
pub use fcn_head::{FcnHead, FcnHeadConfig};
pub use inference::{Inference, MAX_WINDOW_PIXELS, segment};
pub use linear_head::{LinearHead, LinearHeadConfig};
pub use loss::{
    IGNORED, MeanOver, SegmentationLosses, pixel_accuracy, pixel_classes, pixel_cross_entropy,
    resize_logits, segmentation_losses,
};
pub use mean_iou::{ClassIou, PixelConfusion};
pub use model::{
    DecodeHead, DecodeHeadConfig, METHOD_NAMES, Segmentor, SegmentorConfig, SegmentorOutput,
};
pub use pixel_classifier::PixelClassifier;
pub use report::write_per_class_csv;
pub use semantic_fpn::{SemanticFpnConfig, SemanticFpnHead};
pub use upernet::{UperHead, UperHeadConfig};
pub use windows::{Model, Slide};
