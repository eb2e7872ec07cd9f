//! The start of a dense model from the weights of a classifier, or of another dense model.

use std::fmt::Debug;
use std::path::Path;

use super::Recipe;
use super::engine::Event;
use crate::models::{InitializedBackbone, LoadDenseOptions};
use crate::weights::KeyMismatch;
use crate::{Error, Result};

/// The backbone `name` that took the weights of the classifier at `path`; tells how many they were.
///
/// # Errors
/// [`Error::Checkpoint`] if they do not fit.
pub(super) fn tell_begun<B>(
    begun: Result<InitializedBackbone<B>, KeyMismatch>,
    path: &Path,
    name: &str,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<B> {
    let begun = begun.map_err(|mismatch| {
        Error::checkpoint(path, format!("does not fit the backbone {name}: {mismatch}"))
    })?;
    let [loaded, fresh, left_out] =
        [&begun.loaded, &begun.fresh, &begun.left_out].map(|keys| keys.len());
    observe(Event::InitializedBackbone { loaded, fresh, left_out });
    Ok(begun.backbone)
}

/// How the file of a dense model is read to be trained further.
pub(super) fn load_options(recipe: &Recipe, classes: usize) -> LoadDenseOptions {
    LoadDenseOptions {
        model: Some(recipe.model.clone()),
        num_classes: Some(classes),
        drop_path: recipe.drop_path,
        ..LoadDenseOptions::default()
    }
}

/// Refuses heads that are not those of the recipe; tells of last layers that were for `replaced` classes.
///
/// # Errors
/// [`Error::Checkpoint`] if the heads differ.
pub(super) fn tell_loaded<H: PartialEq + Debug>(
    path: &Path,
    [found, wanted]: [&H; 2],
    replaced: Option<usize>,
    classes: usize,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    if found != wanted {
        let reason = format!("holds {found:?}, but the recipe asks for {wanted:?}");
        return Err(Error::checkpoint(path, reason));
    }
    if let Some(checkpoint_classes) = replaced {
        observe(Event::ReplacedHead { checkpoint_classes, classes });
    }
    Ok(())
}
