//! From files to pictures to numbers: everything before the first tensor.
//!
//! A data set in ImageFolder layout, on disk or in an archive, is listed by [`ImageFolder`], a
//! [`Picture`] of it becomes an `RgbImage` in [`decode`], [`EvalTransform`] or [`TrainTransform`] turns that
//! into normalised `f32` values
//! in `[3, height, width]` order, and [`DataLoader`] does both on worker threads, batch by batch.
//! [`RandAugment`], [`color_jitter`](color_jitter()) and [`RandomErasing`] are parts of training;
//! [`LabelMap`] holds what token labeling learns from beside the picture.
//! [`resize`] and [`pil_ops`] give the pixels that Pillow gives, because the published weights
//! were trained on Pillow's pixels. [`segmentation`] is the same for pictures with a class for each pixel,
//! [`detection`] for those with boxes and masks.
//! [`check`] finds what is wrong with a data set, [`shapes`] draws one of its own. This module knows
//! files and pictures; it knows no tensor, no device and no model.

mod archive;
mod archive_folder;
pub mod check;
mod color_jitter;
pub mod detection;
mod image;
mod image_folder;
mod label_crop;
mod label_map;
mod loader;
mod mix_token;
mod mixup;
mod picture;
pub mod pil_ops;
mod rand_augment;
mod random_erasing;
mod resample;
mod resize_passes;
pub mod segmentation;
pub mod shapes;
mod shard;
mod transforms;
mod webdataset;
mod workers;

pub use self::image::{MAX_FILE_BYTES, MAX_PIXELS, decode, decode_bytes, is_image_file};
pub use color_jitter::color_jitter;
pub use image_folder::{ImageFolder, Split, split_folder};
pub use label_map::{LABEL_MAP_TOPK, LabelMap, LabelMaps, LabelMapsInfo};
pub use loader::{Batch, Batches, DataLoader, Example, Sample, Transform};
pub use mix_token::{MixToken, token_label_targets};
pub use mixup::{Mix, Mixup, MixupMode, mix_pictures, mixup_rng, soft_targets};
pub use picture::Picture;
pub use rand_augment::{AugmentOp, DrawnOp, RandAugment};
pub use random_erasing::{ErasingMode, RandomErasing};
pub use resample::{Filter, resize};
pub use shard::Shard;
pub use transforms::{EvalTransform, Framing, Normalize, TrainTransform};
pub use workers::{Loaded, Loading};

/// A picture of 8-bit RGB pixels: the `image` crate's type, so that callers need not name that crate.
pub use ::image::RgbImage;
