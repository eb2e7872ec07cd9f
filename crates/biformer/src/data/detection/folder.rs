//! The pictures of a data set with what is marked in them.

use std::path::{Path, PathBuf};

use super::super::{Example, Picture, RgbImage};
use super::coco::{AnnotatedImage, Category, CocoInstances, Instance};
use super::set::DetectionSet;
use crate::{Error, Result};

/// A part of a data set; no picture is opened.
#[derive(Debug, Clone)]
pub struct DetectionFolder {
    /// The file of the annotations.
    pub annotations: PathBuf,
    /// Sorted by id; the position is the label.
    pub categories: Vec<Category>,
    /// Every picture, sorted by id.
    pub samples: Vec<AnnotatedPicture>,
    /// Annotations that were left out, since their picture is not listed.
    pub without_image: usize,
}

/// A picture that is not opened yet, and what is marked in it.
#[derive(Debug, Clone)]
pub struct AnnotatedPicture {
    /// The picture.
    pub image: Picture,
    /// Its number in the file of the annotations.
    pub id: u64,
    /// Height and width in pixels, as that file says.
    pub size: [u32; 2],
    /// What is marked.
    pub instances: Vec<Instance>,
}

impl Example for AnnotatedPicture {
    type Decoded = RgbImage;

    fn path(&self) -> &Path {
        self.image.path()
    }

    /// # Errors
    /// [`Error::Image`] if it cannot be read, or has another size than its annotations are for.
    fn decode(&self) -> Result<RgbImage> {
        let image = self.image.decode()?;
        let ([height, width], found) = (self.size, image.dimensions());
        if found != (width, height) {
            let reason = format!(
                "has {}x{} pixels, but its annotations are for {width}x{height}",
                found.0, found.1
            );
            return Err(Error::image(self.path(), reason));
        }
        Ok(image)
    }

    /// Upright or not, so that pictures of a batch need little padding.
    fn group(&self) -> usize {
        usize::from(self.size[1] > self.size[0])
    }
}

impl DetectionFolder {
    /// Lists the part `split` of the data set in `root`, with masks.
    ///
    /// # Errors
    /// Those of [`CocoInstances::read`]; [`Error::Dataset`] if there is no such part, no picture in it, or
    /// if pictures are missing.
    pub fn open(root: &Path, set: &DetectionSet, split: &str) -> Result<Self> {
        Self::open_as(root, set, split, CocoInstances::read)
    }

    /// The same without masks, which take most of the memory.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_boxes(root: &Path, set: &DetectionSet, split: &str) -> Result<Self> {
        Self::open_as(root, set, split, CocoInstances::read_boxes)
    }

    fn open_as(
        root: &Path,
        set: &DetectionSet,
        split: &str,
        read: impl Fn(&Path) -> Result<CocoInstances>,
    ) -> Result<Self> {
        let split = set.split(root, split)?;
        let annotations = root.join(&split.annotations);
        let CocoInstances { categories, images, without_image } = read(&annotations)?;
        if images.is_empty() {
            return Err(Error::dataset(annotations, "lists no picture"));
        }
        let folder = root.join(&split.images);
        let sample = |image: AnnotatedImage| {
            let AnnotatedImage { id, file_name, size, instances } = image;
            AnnotatedPicture { image: folder.join(file_name).into(), id, size, instances }
        };
        let samples: Vec<_> = images.into_iter().map(sample).collect();
        let missing: Vec<_> = samples.iter().filter(|sample| !sample.path().exists()).collect();
        if let Some(first) = missing.first() {
            let reason = format!(
                "lists {} of {} pictures that are not there, such as `{}`",
                missing.len(),
                samples.len(),
                first.path().display()
            );
            return Err(Error::dataset(annotations, reason));
        }
        Ok(Self { annotations, categories, samples, without_image })
    }

    /// Names of the categories, by label.
    pub fn class_names(&self) -> Vec<String> {
        self.categories.iter().map(|category| category.name.clone()).collect()
    }

    /// # Errors
    /// [`Error::Dataset`] if `other` has other categories, so that labels would mean other things.
    pub fn check_same_categories(&self, other: &Self) -> Result<()> {
        let pairs = self.categories.iter().map(Some).chain(std::iter::repeat(None));
        let others = other.categories.iter().map(Some).chain(std::iter::repeat(None));
        let count = self.categories.len().max(other.categories.len());
        let Some((here, there)) = pairs.zip(others).take(count).find(|(a, b)| a != b) else {
            return Ok(());
        };
        let name = |category: Option<&Category>| match category {
            Some(Category { id, name }) => format!("{id} `{name}`"),
            None => "no further one".to_owned(),
        };
        let reason = format!(
            "has category {}, but `{}` has {} in its place; list the same categories in both",
            name(there),
            self.annotations.display(),
            name(here)
        );
        Err(Error::dataset(&other.annotations, reason))
    }

    /// Leaves out pictures in which nothing can be learnt, and says how many.
    pub fn keep_marked(&mut self) -> usize {
        let before = self.samples.len();
        self.samples.retain(|sample| {
            sample.instances.iter().any(|thing| !thing.is_crowd && thing.meets(sample.size))
        });
        before - self.samples.len()
    }
}
