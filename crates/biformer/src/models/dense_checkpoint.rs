//! What files of dense models have in common: a backbone under `backbone.`, and metadata that says of what
//! model, which official files lack.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use serde::de::DeserializeOwned;

use super::{BiFormerConfig, MODEL_NAMES};
use crate::weights::{
    KeyStyle, StateDict, keys_and_shapes, read_metadata, read_state_dict_from, state_dict,
};

/// Prefix of the keys of the backbone.
pub(crate) const BACKBONE: &str = "backbone.";

/// How the file of a dense model is to be read.
#[derive(Clone, Debug, Default)]
pub struct LoadDenseOptions {
    /// Name of the backbone; without it, metadata or the shapes of the weights tell. (Those of plain ViTs do
    /// not: windows have no weights.)
    pub model: Option<String>,
    /// Which state dict of a training checkpoint to take.
    pub key: Option<String>,
    /// Classes. If the checkpoint has another number, the last layers that depend on it are replaced by fresh
    /// ones.
    pub num_classes: Option<usize>,
    /// Stochastic depth of the last block, for training.
    pub drop_path: f64,
}

/// Whether a file holds a model of one of these methods, by its metadata or else by its weights. One that cannot be
/// read holds none: loading it tells why.
pub(crate) fn holds_method(
    path: &Path,
    methods: &[&str],
    holds: impl Fn(&StateDict) -> bool,
) -> bool {
    let metadata = read_metadata(path).unwrap_or_default();
    match metadata.get("method") {
        Some(method) => methods.contains(&method.as_str()),
        None if metadata.contains_key("model") => false,
        None => read_state_dict_from(path, None).is_ok_and(|weights| holds(&weights)),
    }
}

/// Puts the fresh last layers of `model` in the place of those in the weights, which are for other classes.
pub(crate) fn replace_last_layers<M: Module>(
    weights: &mut StateDict,
    model: &M,
    style: KeyStyle,
    is_last_layer: impl Fn(&str) -> bool,
) {
    let mut fresh = state_dict(model, style);
    fresh.retain(|key, _| is_last_layer(key));
    weights.retain(|key, _| !is_last_layer(key));
    weights.extend(fresh);
}

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

/// Whether pictures can be seen at such a size, which the metadata may have said.
pub(crate) fn check_picture_size(img_scale: [u32; 2], size_divisor: u32) -> Result<(), String> {
    let sides = img_scale.iter().all(|side| (1..=65_536).contains(side));
    match sides && (1..=512).contains(&size_divisor) {
        true => Ok(()),
        false => Err(format!("metadata: no size of pictures: {img_scale:?}, {size_divisor}")),
    }
}
