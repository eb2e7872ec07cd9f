//! Scores of a detector over a data set.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;

use super::average_precision::{AveragePrecision, FoundInstance, IouType};
use super::detections::Detection;
use super::model::Detector;
use super::{Inference, detect};
use crate::data::detection::AnnotatedPicture;
use crate::data::{DataLoader, Example, RgbImage};
use crate::{Error, Result};

/// A picture with what is true of it and what was found.
#[derive(Debug, Clone, Copy)]
pub struct Detected<'a> {
    /// The picture's file, id and annotations.
    pub sample: &'a AnnotatedPicture,
    /// The picture.
    pub image: &'a RgbImage,
    /// What the model found.
    pub found: &'a [Detection],
}

impl Detected<'_> {
    /// File of the picture.
    pub fn path(&self) -> &Path {
        self.sample.path()
    }

    /// Adds the picture to `scores`: those of boxes come from [`evaluate`], those of masks are the observer's.
    pub fn add_to(&self, scores: &mut AveragePrecision) {
        let instances: Vec<FoundInstance> = self.found.iter().map(Into::into).collect();
        scores.update(self.sample.id, self.sample.size, &self.sample.instances, &instances);
    }
}

/// The pictures of a batch.
#[derive(Debug, Clone)]
pub struct DetectedBatch<'a> {
    /// Those of this process.
    pub pictures: Vec<Detected<'a>>,
    /// How many all processes have.
    pub of: usize,
}

/// Runs `model` over the pictures of `loader`; `observe` sees those of every batch and may break off, which gives
/// `None`. Processes that share the pictures make as many calls each, though a part of a batch may be empty.
///
/// # Errors
/// Those of [`detect`], or if a picture cannot be read.
pub fn evaluate(
    model: &Detector,
    loader: DataLoader<AnnotatedPicture>,
    inference: &Inference,
    device: &Device,
    mut observe: impl FnMut(&DetectedBatch<'_>) -> ControlFlow<()>,
) -> Result<Option<AveragePrecision>> {
    let mut scores = AveragePrecision::new(model.num_classes(), IouType::Bbox);
    let read = |sample: &AnnotatedPicture, image: &RgbImage, _: &mut _| {
        Ok((sample.clone(), image.clone()))
    };
    for batch in loader.load(0, 0, read) {
        // What is left out would make the scores those of another set.
        if let Some((path, reason)) = batch.skipped.first() {
            return Err(Error::dataset(path, reason));
        }
        let detect = |(_, image): &(_, RgbImage)| detect(model, image, inference, device);
        let found = batch.samples.iter().map(detect).collect::<Result<Vec<_>>>()?;
        let pictures = batch.samples.iter().zip(&found).map(|((sample, image), found)| {
            let picture = Detected { sample, image, found };
            picture.add_to(&mut scores);
            picture
        });
        let pictures = pictures.collect();
        if observe(&DetectedBatch { pictures, of: batch.of }).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(scores))
}

impl From<&Detection> for FoundInstance {
    fn from(found: &Detection) -> Self {
        let [x1, y1, x2, y2] = found.bbox.map(f64::from);
        let bbox = [x1, y1, x2 - x1, y2 - y1];
        Self { label: found.label, bbox, score: found.score.into(), mask: found.mask.clone() }
    }
}
