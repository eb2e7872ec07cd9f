//! Segmentors in files: checkpoints of mmsegmentation, and ours, which say in their metadata what they
//! are.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::{
    DecodeHeadConfig, FcnHeadConfig, LinearHeadConfig, METHOD_NAMES, Segmentor, SegmentorConfig,
    SemanticFpnConfig, UperHeadConfig,
};
use crate::data::segmentation::{SegmentationSet, TestResize, voc_palette};
use crate::models::{
    BACKBONE, BackboneConfig, LoadDenseOptions, MODEL_NAMES, VIT_NAMES, VitConfig,
    check_picture_size, entry, guess_backbone, holds_method, n_win, replace_last_layers,
};
use crate::weights::{
    StateDict, StateTensor, load_state_dict, read_metadata, read_state_dict_from, state_dict,
    write_safetensors,
};
use crate::{Error, Result};

/// What one needs to know of a segmentor to use it.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentorInfo {
    /// Its backbone, one of [`MODEL_NAMES`] or [`VIT_NAMES`].
    pub model: String,
    /// One of [`METHOD_NAMES`].
    pub method: String,
    /// Names of the classes, in the order of the logits. If the file does not say, those of ADE20K where
    /// there are as many, else numbers.
    pub classes: Vec<String>,
    /// A colour for each class to draw with; if the file does not say, those of ADE20K or Pascal VOC.
    pub palette: Vec<[u8; 3]>,
    /// Size at which pictures are seen; if the file does not say, that of the official tests.
    pub resize: TestResize,
}

/// What [`load_segmentor`] found.
#[derive(Debug)]
pub struct LoadedSegmentor {
    /// The segmentor.
    pub model: Segmentor,
    /// What it consists of.
    pub config: SegmentorConfig,
    /// How to use it.
    pub info: SegmentorInfo,
    /// Classes in the file, if the last layers were replaced.
    pub replaced_head: Option<usize>,
}

/// Reads a segmentor from a `.pth` or `.safetensors` file, strictly both ways. The method and the
/// channels of its heads are told from the weights.
///
/// # Errors
/// [`Error::Checkpoint`] if the file cannot be read, or holds another model than asked for.
pub fn load_segmentor(
    path: &Path,
    options: &LoadDenseOptions,
    device: &Device,
) -> Result<LoadedSegmentor> {
    let mut weights = read_state_dict_from(path, options.key.as_deref())?;
    let metadata = read_metadata(path).unwrap_or_default();
    let checkpoint_error = |reason: String| Error::checkpoint(path, reason);

    let (decode_head, found_classes) = heads(&weights).map_err(checkpoint_error)?;
    let name = match (&options.model, metadata.get("model")) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) if BackboneConfig::from_name(name).is_ok() => name.clone(),
        (None, _) => guess_backbone(&weights).ok_or_else(|| {
            let known = MODEL_NAMES.join(", ");
            let vits = VIT_NAMES.join(", ");
            checkpoint_error(format!(
                "the backbone is that of no model known here ({known}); if it is a plain ViT, say which \
                 ({vits})"
            ))
        })?,
    };
    let num_classes = options.num_classes.unwrap_or(found_classes);
    let replaced_head = (num_classes != found_classes).then_some(found_classes);
    let backbone = BackboneConfig::from_name(&name)?.with_drop_path_rate(options.drop_path);
    let mut backbone = super::model::dense(backbone);
    if let Some(n_win) = n_win(&metadata).map_err(checkpoint_error)? {
        backbone = backbone.with_n_win(n_win);
    }
    if let BackboneConfig::Vit(config) = &mut backbone {
        fit_vit(config, &weights);
    }
    let config = SegmentorConfig::new(backbone, decode_head).with_num_classes(num_classes);
    let style = config.backbone.key_style();
    let model = config.init(device);
    if replaced_head.is_some() {
        replace_last_layers(&mut weights, &model, style, is_last_layer);
    }
    let model = load_state_dict(model, weights, style).map_err(|mismatch| {
        checkpoint_error(format!("does not fit {} on {name}: {mismatch}", config.method()))
    })?;
    let info = info(&metadata, name, config.method(), num_classes).map_err(checkpoint_error)?;
    Ok(LoadedSegmentor { model, config, info, replaced_head })
}

/// Whether a file holds a segmentor. One that cannot be read holds none: loading it tells why.
pub fn is_segmentor(path: &Path) -> bool {
    holds_method(path, &METHOD_NAMES, holds_segmentor)
}

/// Whether these are weights of a segmentor.
pub(crate) fn holds_segmentor(weights: &StateDict) -> bool {
    weights.keys().any(|key| key.starts_with("decode_head."))
}

/// Writes a segmentor as safetensors under official names, with what [`load_segmentor`] needs as
/// metadata.
pub fn save_segmentor(path: &Path, model: &Segmentor, info: &SegmentorInfo) -> Result<()> {
    let style = model.backbone.key_style();
    let json = |value| serde_json::Value::to_string(&value);
    let entries = [
        ("model", info.model.clone()),
        ("method", info.method.clone()),
        ("n_win", model.backbone.n_win().to_string()),
        ("num_classes", model.num_classes().to_string()),
        ("classes", json(info.classes.clone().into())),
        ("palette", json(info.palette.iter().map(|color| color.to_vec()).collect())),
        ("img_scale", json(info.resize.img_scale.to_vec().into())),
        ("size_divisor", info.resize.size_divisor.to_string()),
    ];
    let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    write_safetensors(path, &state_dict(&model.valid(), style), &metadata)
}

/// Configuration of the heads that have these weights, and their classes.
fn heads(weights: &StateDict) -> Result<(DecodeHeadConfig, usize), String> {
    let rows_and_columns = |key: &str| match weights.get(key) {
        // What has numbers fits into memory, and so does a model of that size.
        Some(StateTensor { shape, data }) => match shape[..] {
            [rows, columns, 1, 1] if !data.is_empty() => Ok([rows, columns]),
            _ => Err(format!("`{key}` has the shape {shape:?}, expected [rows, columns, 1, 1]")),
        },
        None => Err(format!(
            "holds no segmentor (`{key}` is missing); the methods known here are {}",
            METHOD_NAMES.join(", ")
        )),
    };
    let [num_classes, channels] = rows_and_columns("decode_head.conv_seg.weight")?;
    if weights.contains_key("decode_head.bn.weight") {
        return Ok((DecodeHeadConfig::Linear(LinearHeadConfig { channels }), num_classes));
    }
    let is_upernet = weights.keys().any(|key| key.starts_with("decode_head.psp_modules."));
    if !is_upernet {
        let [pyramid_channels, _] = rows_and_columns("neck.lateral_convs.0.conv.weight")?;
        let head = SemanticFpnConfig { pyramid_channels, channels };
        return Ok((DecodeHeadConfig::SemanticFpn(head), num_classes));
    }
    let mut channels_in = [0; 4];
    for (i, channels_in) in channels_in.iter_mut().enumerate().take(3) {
        [_, *channels_in] =
            rows_and_columns(&format!("decode_head.lateral_convs.{i}.conv.weight"))?;
    }
    [_, channels_in[3]] = rows_and_columns("decode_head.psp_modules.0.1.conv.weight")?;
    let [_, auxiliary] = rows_and_columns("auxiliary_head.conv_seg.weight")?;
    let head = UperHeadConfig { channels_in, channels };
    let auxiliary = FcnHeadConfig { channels_in: channels_in[2], channels: auxiliary };
    Ok((DecodeHeadConfig::Uper(head, auxiliary), num_classes))
}

/// Takes the sizes that names do not say from the weights. What is not there is named by strict loading.
fn fit_vit(config: &mut VitConfig, weights: &StateDict) {
    let shape = |key: &str| {
        // What has numbers fits into memory, and so does a model of that size.
        let tensor = weights.get(&format!("{BACKBONE}{key}")).filter(|w| !w.data.is_empty())?;
        Some(tensor.shape.as_slice())
    };
    if let Some([1, tokens, _]) = shape("pos_embed") {
        config.grid = tokens.isqrt();
    }
    if let Some([channels, ..]) = shape("pyramid.lateral_convs.0.conv.weight") {
        config.pyramid_channels = *channels;
    }
}

/// Whether the size of such a weight depends on the number of classes.
fn is_last_layer(key: &str) -> bool {
    key.contains("_head.conv_seg.")
}

/// What the metadata says of a segmentor, and what is likely where it says nothing.
fn info(
    metadata: &BTreeMap<String, String>,
    model: String,
    method: &str,
    num_classes: usize,
) -> Result<SegmentorInfo, String> {
    let ade20k =
        || SegmentationSet::built_in("ade20k").filter(|set| set.classes.len() == num_classes);
    let classes = entry(metadata, "classes")?.filter(|names: &Vec<_>| names.len() == num_classes);
    let palette = entry(metadata, "palette")?.filter(|colors: &Vec<_>| colors.len() == num_classes);
    let official = match method {
        "semantic_fpn" => TestResize::ALIGNED,
        _ => TestResize::KEEP_RATIO,
    };
    let info = SegmentorInfo {
        model,
        method: method.to_owned(),
        classes: classes.unwrap_or_else(|| match ade20k() {
            Some(set) => set.classes,
            None => (0..num_classes).map(|class| class.to_string()).collect(),
        }),
        palette: palette.unwrap_or_else(|| match ade20k() {
            Some(set) => set.palette,
            None => voc_palette(num_classes),
        }),
        resize: TestResize {
            img_scale: entry(metadata, "img_scale")?.unwrap_or(official.img_scale),
            size_divisor: entry(metadata, "size_divisor")?.unwrap_or(official.size_divisor),
        },
    };
    check_picture_size(info.resize.img_scale, info.resize.size_divisor)?;
    Ok(info)
}
