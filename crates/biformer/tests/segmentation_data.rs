//! Data, metrics and inference of semantic segmentation.

#[path = "segmentation_data/mod.rs"]
mod segmentation;
