//! The start of a dense model from the weights of a classifier.

use std::path::Path;

use super::engine::Event;
use crate::models::BiFormer;
use crate::weights::StateDict;
use crate::{Error, Result};

/// The backbone `name` with the weights of the classifier at `path`.
///
/// # Errors
/// [`Error::Checkpoint`] if they do not fit.
pub(super) fn begin_as_classifier(
    backbone: BiFormer,
    weights: StateDict,
    path: &Path,
    name: &str,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<BiFormer> {
    let begun = backbone.with_classifier_weights(weights).map_err(|mismatch| {
        Error::checkpoint(path, format!("does not fit the backbone {name}: {mismatch}"))
    })?;
    let [loaded, fresh, left_out] =
        [&begun.loaded, &begun.fresh, &begun.left_out].map(|keys| keys.len());
    observe(Event::InitializedBackbone { loaded, fresh, left_out });
    Ok(begun.backbone)
}
