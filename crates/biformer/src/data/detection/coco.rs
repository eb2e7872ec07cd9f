//! Instance annotations as COCO has them: one JSON file for all pictures of a part of a data set.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::MAX_PIXELS;
use super::polygon::rasterize;
use super::rle::Rle;
use crate::{Error, Result};

/// What an instances file says, annotations with their pictures.
#[derive(Debug, Clone)]
pub struct CocoInstances {
    /// Sorted by id; the position is the label.
    pub categories: Vec<Category>,
    /// Sorted by id.
    pub images: Vec<AnnotatedImage>,
    /// Annotations that were left out, since their picture is not listed.
    pub without_image: usize,
}

/// A class of things.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Category {
    /// Its number in the file; there may be gaps.
    pub id: u64,
    /// What it is called.
    pub name: String,
}

/// A picture and what is marked in it.
#[derive(Debug, Clone)]
pub struct AnnotatedImage {
    /// Its number in the file.
    pub id: u64,
    /// Its file, below the folder of the pictures.
    pub file_name: String,
    /// Height and width in pixels.
    pub size: [u32; 2],
    /// What is marked, in the order of the file.
    pub instances: Vec<Instance>,
}

/// A thing in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its number in the file.
    pub id: u64,
    /// Position of its category.
    pub label: usize,
    /// Left, top, width and height in pixels.
    pub bbox: [f64; 4],
    /// Pixels that it covers, as the file says; without that, those of the box.
    pub area: f64,
    /// Whether it stands for many of its kind: it is neither learnt nor counted.
    pub is_crowd: bool,
    /// Where its pixels are, if that was read.
    pub segmentation: Option<Segmentation>,
}

/// Where the pixels of a thing are.
#[derive(Debug, Clone, PartialEq)]
pub enum Segmentation {
    /// The parts that are seen, each with corners x, y, x, y …
    Polygons(Vec<Vec<f64>>),
    /// A mask.
    Rle(Rle),
}

impl CocoInstances {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Dataset`] with what cannot be used: no JSON of this kind, numbers that
    /// stand for two pictures or two categories, categories that are not listed, boxes that are no four
    /// numbers, masks of another size than their picture.
    pub fn read(path: &Path) -> Result<Self> {
        CocoFile::<Segmentation>::read(path)?
            .into_instances()
            .map_err(|reason| Error::dataset(path, reason))
    }

    /// The same without masks, which take most of the memory.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), but for masks.
    pub fn read_boxes(path: &Path) -> Result<Self> {
        CocoFile::<NoSegmentation>::read(path)?
            .into_instances()
            .map_err(|reason| Error::dataset(path, reason))
    }

    /// Names of the categories, by label.
    pub fn class_names(&self) -> Vec<String> {
        self.categories.iter().map(|category| category.name.clone()).collect()
    }
}

impl Instance {
    /// Left, top, right and bottom in pixels.
    pub fn xyxy(&self) -> [f32; 4] {
        let [left, top, width, height] = self.bbox;
        [left, top, left + width, top + height].map(|at| at as f32)
    }

    /// Whether something can be learnt from its box in a picture of `size`, height and width.
    pub(super) fn meets(&self, size: [u32; 2]) -> bool {
        meets(self.bbox, self.area, size)
    }

    /// Its pixels in a picture of `size`, height and width; none without a segmentation.
    pub fn mask(&self, size: [u32; 2]) -> Rle {
        match &self.segmentation {
            None => Rle::empty(size),
            Some(Segmentation::Rle(mask)) => mask.clone(),
            Some(Segmentation::Polygons(parts)) => {
                let masks = parts.iter().map(|part| rasterize(part, size));
                masks.reduce(|all, mask| all.union(&mask)).unwrap_or_else(|| Rle::empty(size))
            }
        }
    }
}

/// Whether a box has an area, and sides of a pixel or more that reach into a picture of `size`.
pub(in crate::data) fn meets(bbox: [f64; 4], area: f64, [height, width]: [u32; 2]) -> bool {
    let [left, top, across, down] = bbox;
    let inside = |start: f64, length: f64, side: u32| {
        (start + length).min(f64::from(side)) - start.max(0.0) > 0.0
    };
    area > 0.0
        && across >= 1.0
        && down >= 1.0
        && inside(left, across, width)
        && inside(top, down, height)
}

/// The file as it is, before it is known whether it can be used; `S` is what is kept of masks.
#[derive(Deserialize)]
#[serde(bound = "S: Deserialize<'de>")]
pub(in crate::data) struct CocoFile<S> {
    pub images: Vec<ImageEntry>,
    #[serde(default = "Vec::new")]
    pub annotations: Vec<AnnotationEntry<S>>,
    pub categories: Vec<Category>,
}

#[derive(Deserialize)]
pub(in crate::data) struct ImageEntry {
    pub id: u64,
    pub file_name: String,
    pub width: u32,
    pub height: u32,
}

#[derive(Deserialize)]
#[serde(bound = "S: Deserialize<'de>")]
pub(in crate::data) struct AnnotationEntry<S> {
    pub id: u64,
    pub image_id: u64,
    pub category_id: u64,
    #[serde(default)]
    pub bbox: Vec<f64>,
    pub area: Option<f64>,
    #[serde(default)]
    pub iscrowd: u8,
    pub segmentation: Option<S>,
}

/// Read over.
pub(in crate::data) struct NoSegmentation;

impl<'de> Deserialize<'de> for NoSegmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl From<NoSegmentation> for Option<Segmentation> {
    fn from(_: NoSegmentation) -> Self {
        None
    }
}

impl<S: for<'de> Deserialize<'de>> CocoFile<S> {
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
        let reader = BufReader::with_capacity(1 << 20, file);
        serde_json::from_reader(reader).map_err(|error| match error.io_error_kind() {
            Some(kind) => Error::io("read", path, kind.into()),
            None => Error::dataset(path, format!("is no file of COCO instances: {error}")),
        })
    }
}

impl<S: Into<Option<Segmentation>>> CocoFile<S> {
    fn into_instances(self) -> Result<CocoInstances, String> {
        let Self { mut images, annotations, mut categories } = self;
        images.sort_by_key(|image| image.id);
        categories.sort_by_key(|category| category.id);
        if categories.is_empty() {
            return Err("lists no category".to_owned());
        }
        if let Some(twice) = categories.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let [first, second] = [0, 1].map(|place| &twice[place].name);
            return Err(format!(
                "category {} is both `{first}` and `{second}`; give each its own `id`",
                twice[0].id
            ));
        }
        if let Some(twice) = images.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let [first, second] = [0, 1].map(|place| &twice[place].file_name);
            return Err(format!(
                "image {} is both `{first}` and `{second}`; give each its own `id`",
                twice[0].id
            ));
        }
        let mut images = images.into_iter().map(empty_image).collect::<Result<Vec<_>, _>>()?;
        let places: HashMap<u64, usize> =
            images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
        let labels: HashMap<u64, usize> =
            categories.iter().enumerate().map(|(label, category)| (category.id, label)).collect();
        let mut without_image = 0;
        for entry in annotations {
            let Some(&place) = places.get(&entry.image_id) else {
                without_image += 1;
                continue;
            };
            let instance = instance(entry, &labels, images[place].size)?;
            images[place].instances.push(instance);
        }
        Ok(CocoInstances { categories, images, without_image })
    }
}

fn empty_image(entry: ImageEntry) -> Result<AnnotatedImage, String> {
    let ImageEntry { id, file_name, width, height } = entry;
    match u64::from(width) * u64::from(height) {
        1..=MAX_PIXELS => {
            Ok(AnnotatedImage { id, file_name, size: [height, width], instances: Vec::new() })
        }
        _ => Err(format!(
            "image {id} (`{file_name}`) has {width}x{height} pixels, expected 1 to {MAX_PIXELS}"
        )),
    }
}

fn instance<S: Into<Option<Segmentation>>>(
    entry: AnnotationEntry<S>,
    labels: &HashMap<u64, usize>,
    size: [u32; 2],
) -> Result<Instance, String> {
    let AnnotationEntry { id, category_id, bbox, area, iscrowd, segmentation, .. } = entry;
    let Some(&label) = labels.get(&category_id) else {
        return Err(format!("annotation {id} is of category {category_id}, which is not listed"));
    };
    let Ok(bbox) = <[f64; 4]>::try_from(bbox.as_slice()) else {
        return Err(format!(
            "annotation {id} has a `bbox` of {} numbers, expected left, top, width and height",
            bbox.len()
        ));
    };
    let segmentation = segmentation.and_then(Into::into);
    if let Some(Segmentation::Rle(mask)) = &segmentation
        && mask.size() != size
    {
        let ([height, width], found) = (size, mask.size());
        return Err(format!(
            "annotation {id} has a mask of size [{}, {}], expected that of its picture, [{height}, \
             {width}]",
            found[0], found[1]
        ));
    }
    let area = area.unwrap_or(bbox[2] * bbox[3]);
    Ok(Instance { id, label, bbox, area, is_crowd: iscrowd != 0, segmentation })
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SegmentationVisitor)
    }
}

struct SegmentationVisitor;

impl<'de> Visitor<'de> for SegmentationVisitor {
    type Value = Segmentation;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of polygons or a mask as runs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Segmentation, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element()? {
            parts.push(part);
        }
        Ok(Segmentation::Polygons(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Segmentation, A::Error> {
        Rle::deserialize(MapAccessDeserializer::new(map)).map(Segmentation::Rle)
    }
}
