//! Label maps for token labeling, with any classifier as the annotator.

use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::Device;
use rayon::prelude::*;

use super::{
    ClassifierInfo, ImageClassifier, imagenet1k_classes, imagenet1k_wordnet_ids, images_tensor,
};
use crate::data::{
    Batch, DataLoader, Filter, LabelMap, LabelMaps, Normalize, Picture, RgbImage, resize,
};
use crate::{Error, Result};

/// Pixels of a picture along a cell: the stride of C5.
pub const CELL: usize = 32;

/// The annotator's column of each class of the data set, by name; the classes of ImageNet-1K also go by
/// their WordNet ids.
///
/// # Errors
/// [`Error::Option`] with a class that the annotator does not know.
pub fn annotator_columns(annotator: &ClassifierInfo, classes: &[String]) -> Result<Vec<usize>> {
    let ids = match annotator.classes == imagenet1k_classes() {
        true => imagenet1k_wordnet_ids(),
        false => Vec::new(),
    };
    if classes.len() > 1 << 16 {
        let reason =
            format!("label maps hold at most 65536 classes, the data has {}", classes.len());
        return Err(Error::option("data", reason));
    }
    let column = |class: &String| {
        let place = |names: &[String]| names.iter().position(|name| name == class);
        place(&annotator.classes).or_else(|| place(&ids)).ok_or_else(|| {
            let reason = format!(
                "the annotator does not know the class `{class}` of the data; take or train one that \
                 knows all of its {} classes",
                classes.len()
            );
            Error::option("checkpoint", reason)
        })
    };
    classes.iter().map(column).collect()
}

/// A short name for the weights, the same for the same weights.
pub fn weights_id(model: &ImageClassifier) -> String {
    // FNV-1a over the head, which no step of training leaves as it was.
    let head = model.clone().valid().head.weight.val().into_data_as::<f32>();
    let values: Vec<f32> = head.try_into_vec().expect("float32 weights");
    let hash = values.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Writes the label maps of `pictures`: each is resized whole to the grid, 32 × 32 pixels a cell, and each
/// token of C5 is classified. `columns` are the classes to take, in this order. `observe` sees every
/// batch before its maps are written and may break off; labels of the batch are places in `pictures`.
///
/// # Errors
/// If a map cannot be written, or the annotator's scores are no numbers.
pub fn write_label_maps(
    model: &ImageClassifier,
    columns: &[usize],
    pictures: &[Picture],
    maps: &LabelMaps,
    batch_size: usize,
    device: &Device,
    mut observe: impl FnMut(&Batch) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let [rows, cols] = maps.info.grid;
    let loader = DataLoader::new(pictures.iter().cloned().zip(0..).collect(), batch_size);
    let whole = move |image: &RgbImage| {
        let (width, height) = ((cols * CELL) as u32, (rows * CELL) as u32);
        Normalize::IMAGENET.apply(&resize(image, width, height, Filter::Bicubic, None))
    };
    for batch in loader.epoch(0, 0, Box::new(move |_, image, _| Ok(whole(image).into()))) {
        if observe(&batch).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if batch.labels.is_empty() {
            continue;
        }
        let places = batch.labels.clone();
        let images = images_tensor(batch.pixels, [rows * CELL, cols * CELL], device);
        let [.., c5] = model.backbone.forward_stages(images);
        let (_, tokens) = model.classify_tokens(c5); // [batch, rows, columns, classes of the annotator]
        let [_, _, _, num_classes] = tokens.dims();
        let tokens: Vec<f32> = tokens.into_data_as::<f32>().try_into_vec().expect("float32 logits");
        let maps_of = tokens.par_chunks(rows * cols * num_classes).zip(places);
        maps_of.try_for_each(|(tokens, place)| {
            let picture = pictures[place].path();
            let of_cell =
                |cell: &[f32]| columns.iter().map(|&column| cell[column]).collect::<Vec<_>>();
            let logits: Vec<f32> = tokens.chunks(num_classes).flat_map(of_cell).collect();
            if !logits.iter().all(|logit| logit.is_finite()) {
                return Err(Error::image(picture, "the annotator's scores are no numbers"));
            }
            maps.write(picture, &LabelMap::from_logits(&logits, [rows, cols]))
        })?;
    }
    Ok(ControlFlow::Continue(()))
}
