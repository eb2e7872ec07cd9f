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

/// Runs `model` over the pictures of `loader`, at their own sizes; `observe` sees every one and may break
/// off, which gives `None`.
///
/// # Errors
/// Those of [`segment`], or if a picture or its labels cannot be read.
pub fn evaluate(
    model: &Model<'_>,
    loader: DataLoader<LabeledPicture>,
    classes: usize,
    options: &Inference,
    device: &Device,
    mut observe: impl FnMut(Segmented<'_>) -> ControlFlow<()>,
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
        for (path, image, truth) in &batch.samples {
            let prediction = &segment(model, image, options, device)?;
            confusion.update(prediction, truth);
            if observe(Segmented { path, image, truth, prediction }).is_break() {
                return Ok(None);
            }
        }
    }
    Ok(Some(confusion))
}
