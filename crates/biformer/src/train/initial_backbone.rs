//! The start of a dense model from the weights of a classifier.

use std::path::Path;

use super::engine::Event;
use crate::models::InitializedBackbone;
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
