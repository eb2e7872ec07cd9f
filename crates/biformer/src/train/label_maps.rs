//! Label maps of a run with token labeling.

use std::path::Path;

use rayon::prelude::*;

use super::Recipe;
use crate::data::{ImageFolder, LabelMaps, Picture};
use crate::{Error, Result};

/// The label maps of the recipe, one for each training picture that can be decoded.
pub(super) fn open_label_maps(
    recipe: &Recipe,
    root: &Path,
    train: &ImageFolder,
) -> Result<LabelMaps> {
    let folder = recipe.token_label_data.as_ref().ok_or_else(|| {
        let reason = "name the folder of the label maps; `biformer label-maps` makes them";
        Error::option("token_label_data", reason)
    })?;
    let maps = LabelMaps::open(folder, root, &train.classes)?;
    let lacks = |(picture, _): &&(Picture, usize)| !maps.path(picture.path()).exists();
    let missing: Vec<_> = train.samples.par_iter().filter(lacks).collect();
    // What cannot be decoded has no map, and will be left out.
    if let Some((first, _)) = missing.iter().find(|(picture, _)| picture.decode().is_ok()) {
        let reason = format!(
            "lacks the label maps of {} of {} pictures, such as `{}`; run `biformer label-maps` \
             again, it makes what is missing",
            missing.len(),
            train.samples.len(),
            first.path().display()
        );
        return Err(Error::dataset(folder, reason));
    }
    Ok(maps)
}

/// What is said of the pictures and of their tokens, from what a batch has.
///
/// # Shapes
/// - token_targets: `[count, 1 + tokens, num_classes]`
/// - outputs: `[count, num_classes]`, `[count, tokens, num_classes]`
pub(super) fn split_targets(
    token_targets: &[f32],
    count: usize,
    num_classes: usize,
) -> (Vec<f32>, Vec<f32>) {
    let (mut pictures, mut tokens) = (Vec::new(), Vec::with_capacity(token_targets.len()));
    for of_picture in token_targets.chunks(token_targets.len() / count) {
        let (picture, of_tokens) = of_picture.split_at(num_classes);
        pictures.extend_from_slice(picture);
        tokens.extend_from_slice(of_tokens);
    }
    (pictures, tokens)
}
