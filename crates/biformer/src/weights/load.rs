//! From a checkpoint file, whatever its format, to a state dict.

use std::path::Path;

use crate::{Error, Result};

use super::format::Format;
use super::state_dict::StateDict;
use super::{pytorch_file, safetensors_file};

/// Reads the weights of a checkpoint: safetensors, or a PyTorch `.pth` (ZIP or legacy pickle).
///
/// The format is told from the content. Elements of type f16, bf16 and f64 become f32; integer
/// tensors are left out; strided views and shared storages are read out in full. When every name
/// starts with `module.` (a model saved from inside `DistributedDataParallel`), the prefix is
/// removed; timm's names of Swin's weights become Microsoft's. Of a training checkpoint the first of `model`, `state_dict`, `model_state_dict`,
/// `model_ema` and `state_dict_ema` is taken; [`read_state_dict_from`] chooses another.
///
/// # Safety of untrusted files
///
/// Nothing in a file is ever executed: a pickle is read as data, and a call in it (`os.system`) is
/// an error or an ignored value. Lengths are checked against the file before memory is reserved.
/// Views of a pickle can repeat a storage without end, so all tensors together may take at most
/// eight times the size of the file (or 64 MiB, if that is more). Compressed ZIP entries, which
/// `torch.save` never writes, are refused. What remains is that a pickle of nothing but empty values
/// takes some hundred times its own size while it is parsed.
pub fn read_state_dict(path: &Path) -> Result<StateDict> {
    read_state_dict_from(path, None)
}

/// Like [`read_state_dict`], with the name of the state dict to take from a training checkpoint,
/// such as `model_ema`.
pub fn read_state_dict_from(path: &Path, key: Option<&str>) -> Result<StateDict> {
    let tensors = match (Format::detect(path)?, key) {
        (Format::Safetensors, None) => safetensors_file::read(path)?,
        (Format::Safetensors, Some(key)) => {
            let reason = format!("safetensors hold a single state dict, leave out the key `{key}`");
            return Err(Error::checkpoint(path, reason));
        }
        (Format::PytorchZip, key) => {
            pytorch_file::refuse_compressed_entries(path)?;
            pytorch_file::read(path, key)?
        }
        (Format::PytorchLegacy, key) => pytorch_file::read(path, key)?,
    };
    if tensors.is_empty() {
        return Err(Error::checkpoint(path, "holds no floating-point tensors"));
    }
    Ok(swin_names(strip_wrapper(tensors)))
}

/// `DistributedDataParallel` and timm's EMA keep the model as their attribute `module`, so either
/// all names carry the prefix or it belongs to the model. An EMA of a parallel model has it twice.
fn strip_wrapper(mut tensors: StateDict) -> StateDict {
    const PREFIX: &str = "module.";
    while tensors.keys().all(|name| name.len() > PREFIX.len() && name.starts_with(PREFIX)) {
        tensors = tensors
            .into_iter()
            .map(|(name, tensor)| (name[PREFIX.len()..].to_owned(), tensor))
            .collect();
    }
    tensors
}

/// Microsoft's names of Swin's weights from timm's, which has a merging at the beginning of a stage instead of the end
/// of the one before and one more word in the head; and without masks, which both compute.
fn swin_names(mut tensors: StateDict) -> StateDict {
    if !tensors.contains_key("layers.0.blocks.0.attn.relative_position_bias_table") {
        return tensors;
    }
    tensors.retain(|name, _| !name.ends_with(".attn_mask"));
    let is_timm = tensors.contains_key("layers.3.downsample.norm.weight");
    let official = |name: String| {
        if let Some(part) = name.strip_prefix("head.fc.") {
            return format!("head.{part}");
        }
        for stage in 1..4 {
            if let Some(part) = name.strip_prefix(&format!("layers.{stage}.downsample."))
                && is_timm
            {
                return format!("layers.{}.downsample.{part}", stage - 1);
            }
        }
        name
    };
    tensors.into_iter().map(|(name, tensor)| (official(name), tensor)).collect()
}

/// The reason inside a reader's error, fit for one line of a terminal: some readers quote the whole
/// offending object, which a hostile file can make as long as it likes.
pub(super) fn one_line(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(300).collect()
}
