//! Segmentors as wholes: the names and shapes of their weights, files, the start from a classifier, the
//! maps that they give, their losses and gradients.

#[allow(dead_code)] // other tests use the rest
mod checkpoint_bytes;
mod numbers;
#[path = "segmentation_models/mod.rs"]
mod segmentation;
