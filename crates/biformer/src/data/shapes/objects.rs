//! The set for detection: several objects in a picture, none in front of another, with their masks.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use image::{Luma, Rgb, RgbImage};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::super::detection::{Bitmap, Rle};
use super::dataset::{Split, create_folder, picture_key, refuse_old};
use super::outline::{CLASSES, length};
use super::scene::{GROUND_LIGHTNESS, MAX_ROTATION, OBJECT_LIGHTNESS, Pose};
use super::surface::{Surface, coverage, mix};
use crate::files::write_atomically;
use crate::{Error, Result};

/// Radius of an object; the picture plane is 2 wide.
const RADIUS: Range<f32> = 0.2..0.5;
/// Amplitude of the colour noise.
const NOISE: f32 = 0.03;
/// Places that are tried for an object before it is left out.
const ATTEMPTS: usize = 20;
/// Tells these pictures from those of the classes, which have keys of their own.
const KEY: usize = CLASSES.len();

/// How many pictures of several objects, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectsConfig {
    /// Side of the square pictures in pixels.
    pub img_size: u32,
    /// Pictures to learn from.
    pub train_images: usize,
    /// Pictures to be judged by.
    pub val_images: usize,
    /// Most objects in a picture; there is one at least.
    pub max_objects: usize,
    /// Another seed gives another set of the same kind.
    pub seed: u64,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self { img_size: 128, train_images: 64, val_images: 16, max_objects: 3, seed: 0 }
    }
}

/// A thing in the picture plane.
struct Object {
    class: usize,
    pose: Pose,
    surface: Surface,
}

/// Picture `index` with its objects: the class of each, a place in [`CLASSES`], and its mask.
///
/// It depends on the arguments alone (of the configuration: `seed`, `img_size` and `max_objects`).
///
/// # Shapes
/// - output: `[img_size, img_size, 3]`, and masks `[img_size, img_size]`
///
/// # Panics
/// If `max_objects` is 0.
pub fn render_objects(
    config: &ObjectsConfig,
    split: Split,
    index: usize,
) -> (RgbImage, Vec<(usize, Bitmap)>) {
    let mut rng = StdRng::from_seed(picture_key(config.seed, split, KEY, index));
    let ground = Surface::sample(GROUND_LIGHTNESS, &mut rng);
    let objects = place_objects(config.max_objects, &mut rng);
    let side = config.img_size;
    let pixel = 2.0 / side as f32;
    let point = |column: u32, row: u32| {
        [(column as f32 + 0.5) * pixel - 1.0, 1.0 - (row as f32 + 0.5) * pixel]
    };
    let image = RgbImage::from_fn(side, side, |column, row| {
        let point = point(column, row);
        let mut color = ground.color_at(point, pixel);
        for object in &objects {
            let share = coverage(object.pose.distance(object.class, point), pixel);
            color = mix(color, object.surface.color_at(point, pixel), share);
        }
        Rgb(color.map(|channel| {
            let noise = NOISE * rng.random_range(-1.0..1.0);
            ((channel + noise).clamp(0.0, 1.0) * 255.0).round() as u8
        }))
    });
    let mask = |object: &Object| {
        Bitmap::from_fn(side, side, |column, row| {
            Luma([u8::from(object.pose.distance(object.class, point(column, row)) < 0.0)])
        })
    };
    let masks = objects.iter().map(|object| (object.class, mask(object))).collect();
    (image, masks)
}

/// Writes the set in the layout of COCO: `root/{train,val}/<NNNN>.png` and
/// `root/annotations/instances_{train,val}.json`, with boxes and masks.
///
/// # Errors
/// If `root` already holds one of these folders, or if a file cannot be written.
pub fn write_detection_folder(root: &Path, config: &ObjectsConfig) -> Result<()> {
    refuse_old(root, &["train", "val", "annotations"])?;
    for (split, count) in [(Split::Train, config.train_images), (Split::Val, config.val_images)] {
        let folder = root.join(split.name());
        create_folder(&folder)?;
        create_folder(&root.join("annotations"))?;
        let write = |index: usize| {
            let (image, objects) = render_objects(config, split, index);
            let path = folder.join(file_name(index));
            image.save(&path).map_err(|error| Error::image(&path, error))?;
            Ok(objects)
        };
        let objects = (0..count).into_par_iter().map(write).collect::<Result<Vec<_>>>()?;
        let path = root.join(format!("annotations/instances_{}.json", split.name()));
        let text = instances(&objects, config.img_size).to_string();
        write_atomically(&path, |file| file.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// Draws objects whose circles do not meet and lie in the picture.
fn place_objects(max_objects: usize, rng: &mut StdRng) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    for _ in 0..rng.random_range(1..=max_objects) {
        for _ in 0..ATTEMPTS {
            let radius = rng.random_range(RADIUS);
            let margin = 1.0 - radius;
            let center = [rng.random_range(-margin..margin), rng.random_range(-margin..margin)];
            let is_free = objects.iter().all(|other| {
                let apart = [center[0] - other.pose.center[0], center[1] - other.pose.center[1]];
                length(apart) > radius + other.pose.radius
            });
            if is_free {
                let rotation = rng.random_range(-MAX_ROTATION..MAX_ROTATION);
                objects.push(Object {
                    class: rng.random_range(0..CLASSES.len()),
                    pose: Pose { center, radius, rotation },
                    surface: Surface::sample(OBJECT_LIGHTNESS, rng),
                });
                break;
            }
        }
    }
    objects
}

fn file_name(index: usize) -> String {
    format!("{index:04}.png")
}

/// The annotations of the pictures, as COCO has them; ids begin at 1.
fn instances(pictures: &[Vec<(usize, Bitmap)>], side: u32) -> Value {
    let image = |index: usize| json!({"id": index + 1, "file_name": file_name(index), "width": side, "height": side});
    let mut annotations = Vec::new();
    for (index, objects) in pictures.iter().enumerate() {
        for (class, mask) in objects {
            let mask = Rle::encode(mask);
            annotations.push(json!({
                "id": annotations.len() + 1,
                "image_id": index + 1,
                "category_id": class + 1,
                "bbox": mask.bounding_box(),
                "area": mask.area(),
                "iscrowd": 0,
                "segmentation": mask,
            }));
        }
    }
    let category = |(class, name): (usize, &str)| json!({"id": class + 1, "name": name});
    json!({
        "images": (0..pictures.len()).map(image).collect::<Vec<_>>(),
        "annotations": annotations,
        "categories": CLASSES.into_iter().enumerate().map(category).collect::<Vec<_>>(),
    })
}
