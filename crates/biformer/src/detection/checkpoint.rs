//! Detectors in files: checkpoints of mmdetection, and ours, which say in their metadata what they are.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::coco_classes::COCO_CLASSES;
use super::{
    Detector, DetectorConfig, DetectorHeadsConfig, METHOD_NAMES, MaskRcnnConfig, RetinaHeadConfig,
    RoiExtractor,
};
use crate::data::detection::ResizePad;
use crate::models::{
    BiFormerConfig, LoadDenseOptions, MODEL_NAMES, check_picture_size, entry, guess_backbone,
    holds_method, n_win, replace_last_layers,
};
use crate::weights::{
    StateDict, load_state_dict, read_metadata, read_state_dict_from, state_dict, write_safetensors,
};
use crate::{Error, Result};

/// What one needs to know of a detector to use it.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorInfo {
    /// Its backbone, one of [`MODEL_NAMES`].
    pub model: String,
    /// One of [`METHOD_NAMES`].
    pub method: String,
    /// Names of the classes, in the order of the logits. If the file does not say, those of COCO where
    /// there are as many, else numbers.
    pub classes: Vec<String>,
    /// Size at which pictures are seen; if the file does not say, that of the official tests.
    pub resize: ResizePad,
}

/// What [`load_detector`] found.
#[derive(Debug)]
pub struct LoadedDetector {
    /// The detector.
    pub model: Detector,
    /// What it consists of.
    pub config: DetectorConfig,
    /// How to use it.
    pub info: DetectorInfo,
    /// Classes in the file, if last layers were replaced.
    pub replaced_head: Option<usize>,
}

/// Reads a detector from a `.pth` or `.safetensors` file, strictly both ways. The method and the channels of its
/// heads are told from the weights.
///
/// # Errors
/// [`Error::Checkpoint`] if the file cannot be read, or holds another model than asked for.
pub fn load_detector(
    path: &Path,
    options: &LoadDenseOptions,
    device: &Device,
) -> Result<LoadedDetector> {
    let mut weights = read_state_dict_from(path, options.key.as_deref())?;
    let metadata = read_metadata(path).unwrap_or_default();
    let checkpoint_error = |reason: String| Error::checkpoint(path, reason);

    let (heads, found_classes) = heads(&weights).map_err(checkpoint_error)?;
    let name = match (&options.model, metadata.get("model")) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) if BiFormerConfig::from_name(name).is_ok() => name.clone(),
        (None, _) => guess_backbone(&weights).ok_or_else(|| {
            let known = MODEL_NAMES.join(", ");
            checkpoint_error(format!("the backbone is that of no model known here ({known})"))
        })?,
    };
    let num_classes = options.num_classes.unwrap_or(found_classes);
    let replaced_head = (num_classes != found_classes).then_some(found_classes);
    let backbone = BiFormerConfig::from_name(&name)?.with_drop_path_rate(options.drop_path);
    let mut backbone = super::model::dense(backbone);
    if let Some(n_win) = n_win(&metadata).map_err(checkpoint_error)? {
        backbone.n_win = n_win;
    }
    let config = DetectorConfig::new(backbone, heads).with_num_classes(num_classes);
    let style = config.backbone.key_style();
    let model = config.init(device);
    if replaced_head.is_some() {
        replace_last_layers(&mut weights, &model, style, is_last_layer);
    }
    let model = load_state_dict(model, weights, style).map_err(|mismatch| {
        checkpoint_error(format!("does not fit {} on {name}: {mismatch}", config.method()))
    })?;
    let info = info(&metadata, name, config.method(), num_classes).map_err(checkpoint_error)?;
    Ok(LoadedDetector { model, config, info, replaced_head })
}

/// Whether a file holds a detector. One that cannot be read holds none: loading it tells why.
pub fn is_detector(path: &Path) -> bool {
    holds_method(path, &METHOD_NAMES, holds_detector)
}

/// Whether these are weights of a detector.
pub(crate) fn holds_detector(weights: &StateDict) -> bool {
    weights.keys().any(|key| key.starts_with("bbox_head.") || key.starts_with("rpn_head."))
}

/// Writes a detector as safetensors under official names, with what [`load_detector`] needs as metadata.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub fn save_detector(path: &Path, model: &Detector, info: &DetectorInfo) -> Result<()> {
    let style = model.backbone.config.key_style();
    let json = |value| serde_json::Value::to_string(&value);
    let entries = [
        ("model", info.model.clone()),
        ("method", info.method.clone()),
        ("n_win", model.backbone.config.n_win.to_string()),
        ("num_classes", model.num_classes().to_string()),
        ("classes", json(info.classes.clone().into())),
        ("img_scale", json(info.resize.img_scale.to_vec().into())),
        ("size_divisor", info.resize.size_divisor.to_string()),
    ];
    let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    write_safetensors(path, &state_dict(&model.valid(), style), &metadata)
}

/// Configuration of the heads that have these weights, and their classes.
fn heads(weights: &StateDict) -> Result<(DetectorHeadsConfig, usize), String> {
    match weights.keys().any(|key| key.starts_with("rpn_head.")) {
        true => mask_rcnn(weights),
        false => retinanet(weights),
    }
}

fn retinanet(weights: &StateDict) -> Result<(DetectorHeadsConfig, usize), String> {
    let [logits, channels, ..] = shape(weights, "bbox_head.retina_cls.weight", [0, 0, 3, 3])?;
    let [pyramid_channels, ..] = shape(weights, "neck.fpn_convs.0.conv.weight", [0, 0, 3, 3])?;
    let stacked_convs = count_convs(weights, "bbox_head.cls_convs");
    let head = RetinaHeadConfig { pyramid_channels, channels, stacked_convs };
    let per_token = super::AnchorGenerator::retinanet().per_token();
    if logits % per_token != 0 {
        return Err(format!(
            "has {logits} logits a token, expected {per_token} anchors of each class"
        ));
    }
    Ok((DetectorHeadsConfig::RetinaNet(head), logits / per_token))
}

fn mask_rcnn(weights: &StateDict) -> Result<(DetectorHeadsConfig, usize), String> {
    let [pyramid_channels, ..] = shape(weights, "neck.fpn_convs.0.conv.weight", [0, 0, 3, 3])?;
    let bins = RoiExtractor::BOXES.output_size.pow(2);
    let first = "roi_head.bbox_head.shared_fcs.0.weight";
    let [box_channels, _] = shape(weights, first, [0, pyramid_channels * bins])?;
    let logits = "roi_head.mask_head.conv_logits.weight";
    let [num_classes, ..] = shape(weights, logits, [0, pyramid_channels, 1, 1])?;
    let mask_convs = count_convs(weights, "roi_head.mask_head.convs");
    let head = MaskRcnnConfig { pyramid_channels, box_channels, mask_convs };
    Ok((DetectorHeadsConfig::MaskRcnn(head), num_classes))
}

/// The shape of a weight; sides that are expected to be 0 may have any length.
fn shape<const D: usize>(
    weights: &StateDict,
    key: &str,
    expected: [usize; D],
) -> Result<[usize; D], String> {
    let Some(tensor) = weights.get(key) else {
        return Err(format!(
            "holds no detector (`{key}` is missing); the methods known here are {}",
            METHOD_NAMES.join(", ")
        ));
    };
    let fits = |shape: &[usize; D]| {
        shape.iter().zip(expected).all(|(&side, expected)| expected == 0 || side == expected)
    };
    let shape = <[usize; D]>::try_from(tensor.shape.as_slice()).ok().filter(fits);
    // What has numbers fits into memory, and so does a model of that size.
    shape.filter(|_| !tensor.data.is_empty()).ok_or_else(|| {
        let sides =
            expected.map(|side| if side == 0 { "any".to_owned() } else { side.to_string() });
        format!("`{key}` has the shape {:?}, expected [{}]", tensor.shape, sides.join(", "))
    })
}

/// Convolutions one after another. More are nobody's: a file full of them is refused for its keys, and not built
/// first.
fn count_convs(weights: &StateDict, of: &str) -> usize {
    let is_conv = |i: &usize| weights.contains_key(&format!("{of}.{i}.conv.weight"));
    (0..16).take_while(is_conv).count()
}

/// Whether the size of such a weight depends on the number of classes.
fn is_last_layer(key: &str) -> bool {
    let layers = [
        "bbox_head.retina_cls.",
        "roi_head.bbox_head.fc_cls.",
        "roi_head.bbox_head.fc_reg.",
        "roi_head.mask_head.conv_logits.",
    ];
    layers.iter().any(|layer| key.starts_with(layer))
}

/// What the metadata says of a detector, and what is likely where it says nothing.
fn info(
    metadata: &BTreeMap<String, String>,
    model: String,
    method: &str,
    num_classes: usize,
) -> Result<DetectorInfo, String> {
    let classes = entry(metadata, "classes")?.filter(|names: &Vec<_>| names.len() == num_classes);
    let classes = classes.unwrap_or_else(|| match num_classes == COCO_CLASSES.len() {
        true => COCO_CLASSES.map(str::to_owned).into(),
        false => (0..num_classes).map(|class| class.to_string()).collect(),
    });
    let official = ResizePad::COCO;
    let resize = ResizePad {
        img_scale: entry(metadata, "img_scale")?.unwrap_or(official.img_scale),
        size_divisor: entry(metadata, "size_divisor")?.unwrap_or(official.size_divisor),
        ..official
    };
    check_picture_size(resize.img_scale, resize.size_divisor)?;
    Ok(DetectorInfo { model, method: method.to_owned(), classes, resize })
}
