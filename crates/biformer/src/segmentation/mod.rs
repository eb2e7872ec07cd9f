//! Semantic segmentation: a class for each pixel.

mod baseline;
mod batch;
mod evaluate;
mod inference;
mod mean_iou;
mod report;
mod score_rows;
mod windows;

pub use baseline::{majority_baseline, majority_class};
pub use batch::batch_tensors;
pub use evaluate::{Segmented, evaluate};
pub use inference::{Inference, MAX_WINDOW_PIXELS, segment};
pub use mean_iou::{ClassIou, PixelConfusion};
pub use report::write_per_class_csv;
pub use windows::{Model, Slide};
