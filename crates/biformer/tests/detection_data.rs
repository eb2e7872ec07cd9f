//! Data, masks and scores of object detection.

#[path = "detection_data/mod.rs"]
mod detection;
mod thread_link;
