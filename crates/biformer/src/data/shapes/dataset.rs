//! The set as a whole: which pictures it holds, in memory or as an ImageFolder.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::prelude::*;

use super::outline::CLASSES;
use super::scene::Scene;
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
    assert!(class < CLASSES.len(), "class: got: {class}, expected: below {}", CLASSES.len());
    let mut rng = StdRng::from_seed(picture_key(config.seed, split, class, index));
    let scene = Scene::sample(&mut rng);
    let pixel = 2.0 / config.img_size as f32;
    RgbImage::from_fn(config.img_size, config.img_size, |column, row| {
        let x = (column as f32 + 0.5) * pixel - 1.0;
        let y = 1.0 - (row as f32 + 0.5) * pixel;
        let color = scene.color_at(class, [x, y], pixel);
        Rgb(color.map(|channel| {
            let noise = scene.noise * rng.random_range(-1.0..1.0);
            ((channel + noise).clamp(0.0, 1.0) * 255.0).round() as u8
        }))
    })
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
    for split in [Split::Train, Split::Val] {
        if root.join(split.name()).exists() {
            let reason = format!("holds a `{}` folder already; remove it first", split.name());
            return Err(Error::dataset(root, reason));
        }
    }
    for split in [Split::Train, Split::Val] {
        for class in CLASSES {
            let folder = root.join(split.name()).join(class);
            fs::create_dir_all(&folder).map_err(|e| Error::io("create the folder", &folder, e))?;
        }
        members(config, split).into_par_iter().try_for_each(|(class, index)| {
            let folder = root.join(split.name()).join(CLASSES[class]);
            let path = folder.join(format!("{index:04}.png"));
            render(config, split, class, index).save(&path).map_err(|e| Error::image(&path, e))
        })?;
    }
    Ok(())
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
fn picture_key(seed: u64, split: Split, class: usize, index: usize) -> [u8; 32] {
    let words = [seed, split as u64, class as u64, index as u64];
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    key
}
