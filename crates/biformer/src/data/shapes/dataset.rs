//! The set as a whole: which pictures it holds, in memory or as an ImageFolder.

use std::fs;
use std::io::Write;
use std::path::Path;

use image::{Luma, Rgb, RgbImage};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::prelude::*;

use super::super::segmentation::{SegMap, voc_palette, write_seg_map};
use super::outline::{CLASSES, Point};
use super::scene::Scene;
use crate::files::write_atomically;
use crate::{Error, Result};

/// How many pictures, how large, and which ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapesConfig {
    /// Side of the square pictures in pixels.
    pub img_size: u32,
    /// Training pictures of each class.
    pub train_per_class: usize,
    /// Validation pictures of each class.
    pub val_per_class: usize,
    /// Another seed gives another set of the same kind.
    pub seed: u64,
}

impl Default for ShapesConfig {
    /// The set of `biformer demo`: 2400 pictures to learn from, 800 to be judged by.
    fn default() -> Self {
        Self { img_size: 64, train_per_class: 250, val_per_class: 100, seed: 0 }
    }
}

/// Which part of the set a picture belongs to; no picture is in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The pictures to learn from.
    Train,
    /// The pictures that judge what was learned.
    Val,
}

impl Split {
    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// Picture `index` of `class`, a place in [`CLASSES`].
///
/// It depends on the arguments alone (of the configuration: `seed` and `img_size`), so a picture
/// stays the same when the set grows. At another `img_size` it shows the same scene. (Another
/// version of `rand` may bring another set of the same kind.)
///
/// # Panics
/// If `class` is not below `CLASSES.len()`.
pub fn render(config: &ShapesConfig, split: Split, class: usize, index: usize) -> RgbImage {
    let (scene, mut rng) = scene(config, split, class, index);
    RgbImage::from_fn(config.img_size, config.img_size, |column, row| {
        let color = scene.color_at(class, point(config, column, row), pixel_side(config));
        Rgb(color.map(|channel| {
            let noise = scene.noise * rng.random_range(-1.0..1.0);
            ((channel + noise).clamp(0.0, 1.0) * 255.0).round() as u8
        }))
    })
}

/// What each pixel of [`render`]'s picture shows: 0 the ground and what lies on it or in front of the
/// object, else 1 more than the class of the object.
///
/// # Panics
/// If `class` is not below `CLASSES.len()`.
pub fn render_seg_map(config: &ShapesConfig, split: Split, class: usize, index: usize) -> SegMap {
    let (scene, _) = scene(config, split, class, index);
    SegMap::from_fn(config.img_size, config.img_size, |column, row| {
        match scene.shows_object(class, point(config, column, row)) {
            true => Luma([class as u8 + 1]),
            false => Luma([0]),
        }
    })
}

fn scene(config: &ShapesConfig, split: Split, class: usize, index: usize) -> (Scene, StdRng) {
    assert!(class < CLASSES.len(), "class: got: {class}, expected: below {}", CLASSES.len());
    let mut rng = StdRng::from_seed(picture_key(config.seed, split, class, index));
    (Scene::sample(&mut rng), rng)
}

/// Where the middle of a pixel lies in the picture plane.
fn point(config: &ShapesConfig, column: u32, row: u32) -> Point {
    let pixel = pixel_side(config);
    [(column as f32 + 0.5) * pixel - 1.0, 1.0 - (row as f32 + 0.5) * pixel]
}

fn pixel_side(config: &ShapesConfig) -> f32 {
    2.0 / config.img_size as f32
}

/// All pictures of one split with their labels, class after class.
pub fn render_split(config: &ShapesConfig, split: Split) -> Vec<(RgbImage, usize)> {
    members(config, split)
        .into_par_iter()
        .map(|(class, index)| (render(config, split, class, index), class))
        .collect()
}

/// Writes the set in ImageFolder layout: `root/{train,val}/<class>/<NNNN>.png`.
///
/// Sorted folder names give the labels of [`CLASSES`].
///
/// # Errors
/// If `root` already holds a `train` or `val` folder (old pictures would mix with the new
/// ones), or if a file cannot be written.
pub fn write_image_folder(root: &Path, config: &ShapesConfig) -> Result<()> {
    refuse_old(root, &["train", "val"])?;
    for split in [Split::Train, Split::Val] {
        for class in CLASSES {
            create_folder(&root.join(split.name()).join(class))?;
        }
        members(config, split).into_par_iter().try_for_each(|(class, index)| {
            let folder = root.join(split.name()).join(CLASSES[class]);
            let path = folder.join(format!("{index:04}.png"));
            render(config, split, class, index).save(&path).map_err(|e| Error::image(&path, e))
        })?;
    }
    Ok(())
}

/// Writes the set for semantic segmentation: `root/{images,labels}/{train,val}/<class>_<NNNN>.png` with
/// the `dataset.toml` that describes it.
///
/// # Errors
/// As [`write_image_folder`], of `images`, `labels` and `dataset.toml`.
pub fn write_segmentation_folder(root: &Path, config: &ShapesConfig) -> Result<()> {
    refuse_old(root, &["images", "labels", "dataset.toml"])?;
    let classes = ["background"].into_iter().chain(CLASSES).collect::<Vec<_>>();
    let palette = voc_palette(classes.len());
    for split in [Split::Train, Split::Val] {
        let [images, labels] = ["images", "labels"].map(|kind| root.join(kind).join(split.name()));
        create_folder(&images)?;
        create_folder(&labels)?;
        members(config, split).into_par_iter().try_for_each(|(class, index)| {
            let name = format!("{}_{index:04}.png", CLASSES[class]);
            let path = images.join(&name);
            render(config, split, class, index).save(&path).map_err(|e| Error::image(&path, e))?;
            let map = render_seg_map(config, split, class, index);
            write_seg_map(&labels.join(&name), &map, &palette)
        })?;
    }
    let split = |name: &str| {
        format!("[splits.{name}]\nimages = \"images/{name}\"\nlabels = \"labels/{name}\"\n")
    };
    let text =
        format!("name = \"shapes\"\nclasses = {classes:?}\n\n{}\n{}", split("train"), split("val"));
    write_atomically(&root.join("dataset.toml"), |file| file.write_all(text.as_bytes()))
}

/// Old pictures would mix with the new ones.
pub(super) fn refuse_old(root: &Path, names: &[&str]) -> Result<()> {
    match names.iter().find(|name| root.join(name).exists()) {
        Some(name) => {
            let reason = format!("holds `{name}` already; remove it first");
            Err(Error::dataset(root, reason))
        }
        None => Ok(()),
    }
}

pub(super) fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Error::io("create the folder", folder, error))
}

/// Every `(class, index)` of a split: the same number of each class.
fn members(config: &ShapesConfig, split: Split) -> Vec<(usize, usize)> {
    let per_class = match split {
        Split::Train => config.train_per_class,
        Split::Val => config.val_per_class,
    };
    (0..CLASSES.len()).flat_map(|class| (0..per_class).map(move |index| (class, index))).collect()
}

/// The four numbers side by side are the key of the random stream: no two pictures share one.
pub(super) fn picture_key(seed: u64, split: Split, class: usize, index: usize) -> [u8; 32] {
    let words = [seed, split as u64, class as u64, index as u64];
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    key
}
