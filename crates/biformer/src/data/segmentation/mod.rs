//! Pictures with a class for every pixel: data sets, label maps, and what training and testing do to both.
//!
//! [`SegmentationSet`] says what a data set consists of (classes, palette, folders), [`SegmentationFolder`]
//! lists one part of it, a [`LabeledPicture`] of that becomes an `RgbImage` and a [`SegMap`] of the same
//! size, and [`SegmentationTransform`] changes both alike. [`TestResize`] is for inference, which gives a
//! label map of the size of the picture.

mod bilinear;
mod folder;
mod photometric;
mod seg_map;
mod set;
mod test_resize;
mod transform;

pub(crate) use bilinear::{Tap, lerp, taps};
pub(super) use bilinear::{Window, resize_bilinear, resize_nearest};
pub use folder::{LabeledPicture, SegmentationFolder};
pub(super) use folder::{Pairs, pair_files};
pub use photometric::PhotoMetricDistortion;
pub(super) use seg_map::LabelTable;
pub use seg_map::{IGNORE_INDEX, SegMap, class_areas, read_label_values, write_seg_map};
pub use set::{SegmentationSet, SplitFolders, voc_palette};
pub use test_resize::TestResize;
pub(super) use test_resize::rescaled;
pub use transform::{SegmentationSample, SegmentationTransform};
