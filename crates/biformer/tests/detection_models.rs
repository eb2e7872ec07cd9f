//! Detectors as wholes: the names and shapes of their weights, files, what anchors stand for, their losses, and
//! what they find.

#[path = "detection_models/mod.rs"]
mod detection;
mod numbers;
