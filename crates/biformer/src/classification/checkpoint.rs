//! Classifiers in files: official checkpoints, and ours, which say in their metadata what they
//! are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use biformer_ops::Precision;
use burn::module::Module;
use burn::tensor::Device;

use super::{ImageClassifier, ImageClassifierConfig, Pretrained};
use crate::data::EvalTransform;
use crate::models::{BiFormerConfig, MODEL_NAMES};
use crate::weights::{
    KeyStyle, StateDict, keys_and_shapes, load_state_dict, read_metadata, read_state_dict_from,
    state_dict, write_safetensors, write_safetensors_half,
};
use crate::{Error, Result};

/// What one needs to know of a classifier to use it.
#[derive(Clone, Debug)]
pub struct ClassifierInfo {
    /// One of [`MODEL_NAMES`].
    pub model: String,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// How pictures are prepared.
    pub transform: EvalTransform,
}

/// How a checkpoint is to be read.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Name of the model; without it, metadata or the shapes of the weights tell.
    pub model: Option<String>,
    /// Which state dict of a training checkpoint to take, such as `model_ema`.
    pub key: Option<String>,
    /// Classes of the head. If the checkpoint has another number, its head is replaced by a
    /// fresh one.
    pub num_classes: Option<usize>,
    /// Stochastic depth of the last block, for training.
    pub drop_path: f64,
    /// Class attention and head of the tokens, for training: what the checkpoint lacks is fresh,
    /// what it has more is left out. Without it, as many parts as the checkpoint has.
    pub token_parts: Option<TokenParts>,
}

/// What a classifier has for token labeling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenParts {
    /// Blocks of class attention.
    pub class_blocks: usize,
    /// Whether there is a head for the tokens.
    pub aux_head: bool,
}

/// What [`load_classifier`] found.
#[derive(Debug)]
pub struct LoadedClassifier {
    /// The classifier.
    pub model: ImageClassifier,
    /// How to use it.
    pub info: ClassifierInfo,
    /// Classes of the head in the file, if it was replaced.
    pub replaced_head: Option<usize>,
}

impl LoadedClassifier {
    /// See [`BiFormer::for_inference`](crate::models::BiFormer::for_inference).
    pub fn for_inference(self) -> Self {
        self.for_inference_in(Precision::F32)
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference_in(self, precision: Precision) -> Self {
        Self { model: self.model.for_inference_in(precision), ..self }
    }
}

/// Reads a classifier from a `.pth` or `.safetensors` file, strictly both ways, or takes one of
/// [`PRETRAINED`](super::PRETRAINED) by its name.
///
/// # Errors
/// [`Error::Checkpoint`] if the file cannot be read, or holds another model than asked for.
pub fn load_classifier(
    path: &Path,
    options: &LoadOptions,
    device: &Device,
) -> Result<LoadedClassifier> {
    let (weights, metadata) = read_weights(path, options.key.as_deref())?;
    build(path, weights, &metadata, options, device)
}

/// Weights and metadata of a file, or of one of [`PRETRAINED`](super::PRETRAINED).
pub(crate) fn read_weights(
    path: &Path,
    key: Option<&str>,
) -> Result<(StateDict, BTreeMap<String, String>)> {
    match Pretrained::named(path) {
        Some(pretrained) => pretrained.read(),
        None => Ok((read_state_dict_from(path, key)?, read_metadata(path).unwrap_or_default())),
    }
}

/// The classifier of these weights; `path` is where they come from.
fn build(
    path: &Path,
    mut weights: StateDict,
    metadata: &BTreeMap<String, String>,
    options: &LoadOptions,
    device: &Device,
) -> Result<LoadedClassifier> {
    let head_classes = match weights.get("head.weight").map(|head| head.shape.as_slice()) {
        Some(&[num_classes, _]) => num_classes,
        _ if weights.keys().any(|key| key.starts_with("optimizer.")) => {
            let reason = "is the state of a training run; take `last.safetensors` or \
                          `best.safetensors` beside it";
            return Err(Error::checkpoint(path, reason));
        }
        _ => {
            let reason = "holds no classification head (`head.weight` with two axes); backbones \
                          of detection and segmentation have none";
            return Err(Error::checkpoint(path, reason));
        }
    };
    let name = match (&options.model, metadata.get("model")) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) if BiFormerConfig::from_name(name).is_ok() => name.clone(),
        (None, _) => guess_model(&weights).ok_or_else(|| {
            let known = MODEL_NAMES.join(", ");
            let reason = format!("the weights are those of no model known here ({known})");
            Error::checkpoint(path, reason)
        })?,
    };
    let backbone = BiFormerConfig::from_name(&name)?.with_drop_path_rate(options.drop_path);
    let style = backbone.key_style();

    let num_classes = options.num_classes.unwrap_or(head_classes);
    let replaced_head = (num_classes != head_classes).then_some(head_classes);
    let TokenParts { class_blocks, aux_head } =
        options.token_parts.unwrap_or_else(|| TokenParts::of(&weights));
    let config = ImageClassifierConfig { backbone, num_classes, class_blocks, aux_head };
    let model = config.init(device);
    if replaced_head.is_some() {
        weights.retain(|key, _| !HEADS.contains(&part(key)));
    }
    if replaced_head.is_some() || options.token_parts.is_some() {
        fill_parts(&mut weights, &model, style);
    }
    let guess = guess_model(&weights);
    let model = load_state_dict(model, weights, style).map_err(|mismatch| {
        let hint = match guess {
            Some(other) if other != name => format!("; the weights look like {other}"),
            _ => String::new(),
        };
        Error::checkpoint(path, format!("does not fit {name}: {mismatch}{hint}"))
    })?;
    let info = ClassifierInfo::from_metadata(name, num_classes, metadata)
        .map_err(|reason| Error::checkpoint(path, reason))?;
    Ok(LoadedClassifier { model, info, replaced_head })
}

/// Writes a classifier as safetensors under official names, with what [`load_classifier`] needs
/// as metadata.
pub fn save_classifier(path: &Path, model: &ImageClassifier, info: &ClassifierInfo) -> Result<()> {
    let style = model.backbone.config.key_style();
    write_safetensors(path, &state_dict(&model.valid(), style), &info.to_metadata())
}

/// The same with numbers of 16 bits, see [`write_safetensors_half`].
pub fn save_classifier_half(
    path: &Path,
    model: &ImageClassifier,
    info: &ClassifierInfo,
) -> Result<()> {
    let style = model.backbone.config.key_style();
    write_safetensors_half(path, &state_dict(&model.valid(), style), &info.to_metadata())
}

/// The model whose keys and shapes, the head aside, are those of the weights.
pub fn guess_model(weights: &StateDict) -> Option<String> {
    let name = MODEL_NAMES.into_iter().find(|name| {
        let config = BiFormerConfig::from_name(name).expect("a known name");
        let style = config.key_style();
        let model = ImageClassifierConfig::new(config).init(&Device::default());
        let keys = keys_and_shapes(&model, style);
        keys.len() == weights.keys().filter(|key| !is_token_part(key)).count()
            && keys.iter().all(|(key, shape)| {
                key.starts_with("head.") || weights.get(key).is_some_and(|w| w.shape == *shape)
            })
    });
    name.map(str::to_owned)
}

/// Takes heads and parts of token labeling that the weights lack from the fresh model, and those that it
/// lacks out of the weights. A part that is there in part is left as it is: strict loading names it.
fn fill_parts(weights: &mut StateDict, model: &ImageClassifier, style: KeyStyle) {
    let keys: BTreeSet<String> =
        keys_and_shapes(model, style).into_iter().map(|(key, _)| key).collect();
    weights.retain(|key, _| !is_token_part(key) || keys.contains(key));
    let there: BTreeSet<&str> = weights.keys().map(|key| part(key)).collect();
    let is_missing = |key: &&String| {
        (is_token_part(key) || HEADS.contains(&part(key))) && !there.contains(part(key))
    };
    let missing: Vec<String> = keys.iter().filter(is_missing).cloned().collect();
    if !missing.is_empty() {
        let mut fresh = state_dict(model, style);
        weights.extend(missing.iter().filter_map(|key| fresh.remove_entry(key)));
    }
}

impl TokenParts {
    /// What the weights have.
    fn of(weights: &StateDict) -> Self {
        let blocks: BTreeSet<&str> = weights
            .keys()
            .map(|key| part(key))
            .filter(|part| part.starts_with(POST_NETWORK))
            .collect();
        // More are nobody's: a file full of them is refused for its keys, and not built first.
        let class_blocks = blocks.len().min(16);
        Self { class_blocks, aux_head: weights.contains_key("aux_head.weight") }
    }
}

/// Parts with a size that depends on the number of classes.
const HEADS: [&str; 2] = ["head", "aux_head"];

/// Prefix of the blocks of class attention.
const POST_NETWORK: &str = "post_network.";

/// Whether a plain classifier has no such key.
fn is_token_part(key: &str) -> bool {
    key.starts_with(POST_NETWORK) || part(key) == "aux_head"
}

/// The part of the model that the key belongs to: its first word, or one of the blocks of class
/// attention.
fn part(key: &str) -> &str {
    let words = if key.starts_with(POST_NETWORK) { 2 } else { 1 };
    key.match_indices('.').nth(words - 1).map_or(key, |(end, _)| &key[..end])
}

impl ClassifierInfo {
    /// Official checkpoints have no metadata: they are ImageNet-1K models for 224².
    fn from_metadata(
        model: String,
        num_classes: usize,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let number = |key: &str, default: f64| match metadata.get(key) {
            Some(text) => {
                let number = text.parse::<f64>().ok().filter(|number| *number > 0.0);
                number.ok_or_else(|| format!("metadata `{key}` is no positive number: `{text}`"))
            }
            None => Ok(default),
        };
        let classes: Vec<String> = match metadata.get("classes") {
            Some(json) => serde_json::from_str(json)
                .map_err(|error| format!("metadata `classes` is no list of names: {error}"))?,
            None => Vec::new(),
        };
        let classes = match classes.len() {
            len if len == num_classes => classes,
            _ if num_classes == 1000 => super::imagenet1k_classes(),
            _ => (0..num_classes).map(|class| format!("class_{class}")).collect(),
        };
        let img_size = number("img_size", 224.0)?;
        if img_size > 4096.0 {
            return Err(format!("metadata `img_size` is {img_size}, at most 4096 is sensible"));
        }
        let crop_pct = number("crop_pct", 0.875)?.clamp(0.01, 1.0);
        let transform = EvalTransform { crop_pct, ..EvalTransform::new(img_size as usize) };
        Ok(Self { model, classes, transform })
    }

    fn to_metadata(&self) -> BTreeMap<String, String> {
        let classes = serde_json::to_string(&self.classes).expect("names are JSON");
        let entries = [
            ("model", self.model.clone()),
            ("num_classes", self.classes.len().to_string()),
            ("classes", classes),
            ("img_size", self.transform.img_size.to_string()),
            ("crop_pct", self.transform.crop_pct.to_string()),
        ];
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
