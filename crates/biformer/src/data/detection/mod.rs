//! Pictures with boxes and masks: COCO files, masks as runs and polygons, and what training does to a
//! picture with all that is marked in it.
//!
//! [`DetectionSet`] says where a data set has its parts, [`DetectionFolder`] lists one of them, an
//! [`AnnotatedPicture`] of that becomes an `RgbImage`, and [`DetectionTransform`] makes a
//! [`DetectionSample`] of both. [`ResizePad`] is for inference. [`CocoInstances`] reads the files, [`Rle`]
//! is a mask, [`CocoResult`] what others read of ours.

mod coco;
mod folder;
mod polygon;
mod resize_pad;
mod results;
mod rle;
mod rle_text;
mod set;
mod transform;

pub use coco::{AnnotatedImage, Category, CocoInstances, Instance, Segmentation};
pub(super) use coco::{AnnotationEntry, CocoFile, ImageEntry, meets};
pub use folder::{AnnotatedPicture, DetectionFolder};
pub use polygon::rasterize;
pub use resize_pad::{PreparedPicture, ResizePad, stack_pictures};
pub use results::{CocoResult, read_results, write_results};
pub use rle::{Bitmap, Rle};
pub use set::{DetectionSet, DetectionSplit};
pub use transform::{DetectionSample, DetectionTransform};
