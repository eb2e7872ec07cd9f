//! What files of dense models have in common: a backbone under `backbone.`, and metadata that says of what
//! model, which official files lack.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::de::DeserializeOwned;

use super::{BiFormerConfig, MODEL_NAMES};
use crate::weights::{StateDict, keys_and_shapes};

/// Prefix of the keys of the backbone.
pub(crate) const BACKBONE: &str = "backbone.";

/// The model whose keys and shapes are those of the backbone.
pub(crate) fn guess_backbone(weights: &StateDict) -> Option<String> {
    let in_file = weights.keys().filter(|key| key.starts_with(BACKBONE)).count();
    let name = MODEL_NAMES.into_iter().find(|name| {
        let config = BiFormerConfig::from_name(name).expect("a known name");
        let backbone = config.with_extra_norms(true).init(&Device::default());
        let keys = keys_and_shapes(&backbone, backbone.config.key_style());
        let fits = |(key, shape): &(String, Vec<usize>)| {
            weights.get(&format!("{BACKBONE}{key}")).is_some_and(|w| w.shape == *shape)
        };
        keys.len() == in_file && keys.iter().all(fits)
    });
    name.map(str::to_owned)
}

/// A value in the metadata, written as JSON, if it is there.
pub(crate) fn entry<T: DeserializeOwned>(
    metadata: &BTreeMap<String, String>,
    key: &str,
) -> Result<Option<T>, String> {
    let value = metadata.get(key).map(|json| serde_json::from_str(json)).transpose();
    value.map_err(|error| format!("metadata `{key}`: {error}"))
}

/// Regions a side in the metadata, if it says: weights are the same for any number.
pub(crate) fn n_win(metadata: &BTreeMap<String, String>) -> Result<Option<usize>, String> {
    let Some(text) = metadata.get("n_win") else { return Ok(None) };
    let number = text.parse().ok().filter(|n_win| (1..=1024).contains(n_win));
    number.map(Some).ok_or_else(|| format!("metadata `n_win` is no number up to 1024: `{text}`"))
}
