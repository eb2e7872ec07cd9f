//! Semantic segmentation (paper §4.3, Table 4): a class for each pixel, by Semantic FPN or UPerNet on the
//! maps C2–C5. Heads and losses are those of mmsegmentation 0.30, in whose files official weights
//! come.

mod checkpoint;
mod fcn_head;
mod loss;
mod model;
mod pixel_classifier;
mod semantic_fpn;
mod upernet;

pub use checkpoint::{
    LoadSegmentorOptions, LoadedSegmentor, SegmentorInfo, load_segmentor, save_segmentor,
};
pub use fcn_head::{FcnHead, FcnHeadConfig};
pub use loss::{
    IGNORED, MeanOver, SegmentationLosses, pixel_accuracy, pixel_classes, pixel_cross_entropy,
    resize_logits, segmentation_losses,
};
pub use model::{
    DecodeHead, DecodeHeadConfig, METHOD_NAMES, Segmentor, SegmentorConfig, SegmentorOutput,
};
pub use pixel_classifier::PixelClassifier;
pub use semantic_fpn::{SemanticFpnConfig, SemanticFpnHead};
pub use upernet::{UperHead, UperHeadConfig};
