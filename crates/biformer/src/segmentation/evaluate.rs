//! Scores of a model over a data set.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;

use super::windows::Model;
use super::{Inference, PixelConfusion, segment};
use crate::data::segmentation::{LabeledPicture, SegMap};
use crate::data::{DataLoader, Example, RgbImage};
use crate::{Error, Result};

/// A picture with what is true of it and what was said.
#[derive(Debug, Clone, Copy)]
pub struct Segmented<'a> {
    /// File of the picture.
    pub path: &'a Path,
    /// The picture.
    pub image: &'a RgbImage,
    /// Its labels.
    pub truth: &'a SegMap,
    /// What the model said.
    pub prediction: &'a SegMap,
}

/// The pictures of a batch.
#[derive(Debug, Clone)]
pub struct SegmentedBatch<'a> {
    /// Those of this process.
    pub pictures: Vec<Segmented<'a>>,
    /// How many all processes have.
    pub of: usize,
}

/// Runs `model` over the pictures of `loader`, at their own sizes; `observe` sees those of every batch and
/// may break off, which gives `None`. Processes that share the pictures make as many calls each, though a
/// part of a batch may be empty.
///
/// # Errors
/// Those of [`segment`], or if a picture or its labels cannot be read.
pub fn evaluate(
    model: &Model<'_>,
    loader: DataLoader<LabeledPicture>,
    classes: usize,
    options: &Inference,
    device: &Device,
    mut observe: impl FnMut(&SegmentedBatch<'_>) -> ControlFlow<()>,
) -> Result<Option<PixelConfusion>> {
    let mut confusion = PixelConfusion::new(classes);
    let read = |sample: &LabeledPicture, (image, truth): &(RgbImage, SegMap), _: &mut _| {
        Ok((sample.path().to_owned(), image.clone(), truth.clone()))
    };
    for batch in loader.load(0, 0, read) {
        // What is left out would make the scores those of another set.
        if let Some((path, reason)) = batch.skipped.first() {
            return Err(Error::dataset(path, reason));
        }
        let predict = |(_, image, _): &(_, _, _)| segment(model, image, options, device);
        let predictions = batch.samples.iter().map(predict).collect::<Result<Vec<_>>>()?;
        let samples = batch.samples.iter().zip(&predictions);
        let pictures = samples.map(|((path, image, truth), prediction)| {
            confusion.update(prediction, truth);
            Segmented { path, image, truth, prediction }
        });
        let pictures = pictures.collect();
        if observe(&SegmentedBatch { pictures, of: batch.of }).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(confusion))
}
