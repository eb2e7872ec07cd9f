//! Reading `.pth` files through Burn's PyTorch reader, which parses the pickle as data.
//!
//! What is added here: which of a training checkpoint's dictionaries holds the weights, and a bound
//! on the memory that all tensors together may take.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader, Tensor};
use zip::{CompressionMethod, ZipArchive};

use crate::{Error, Result};

use super::load::one_line;
use super::state_dict::{self, Decoder, StateDict, StateTensor};

/// Reads the state dict called `key`, or the one that training scripts mean, from a `.pth` file.
pub(super) fn read(path: &Path, key: Option<&str>) -> Result<StateDict> {
    let chosen = choose_state_dict(path, key)?;
    let reader = match &chosen {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let tensors = reader.map_err(|error| damaged(path, error))?.into_tensors();
    refuse_expansion(path, tensors.values())?;
    let mut state_dict = StateDict::new();
    for (name, tensor) in tensors {
        if let Some(decode) = decoder(tensor.dtype()) {
            let bytes = tensor.read().map_err(|error| damaged(path, PytorchError::Io(error)))?;
            state_dict.insert(name, StateTensor::new(tensor.shape().to_vec(), decode(&bytes)));
        }
    }
    Ok(state_dict)
}

/// Where training scripts put the weights, in the order of preference.
const STATE_DICT_KEYS: [&str; 5] =
    ["model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema"];

/// The top-level key that holds the weights; `None` if the file is itself the state dict.
fn choose_state_dict(path: &Path, key: Option<&str>) -> Result<Option<String>> {
    let root = PytorchReader::read_pickle_data(path, None).map_err(|error| damaged(path, error))?;
    let PickleValue::Dict(root) = root else {
        let cure = "save the weights with `torch.save(model.state_dict(), path)`";
        return Err(Error::checkpoint(path, format!("is not a dictionary; {cure}")));
    };
    let is_state_dict = |key: &str| match root.get(key) {
        Some(value @ PickleValue::Dict(_)) => holds_tensors(value),
        _ => false,
    };
    if let Some(key) = key {
        if is_state_dict(key) {
            return Ok(Some(key.to_owned()));
        }
        let found = names_of_state_dicts(&root);
        return Err(Error::checkpoint(path, format!("has no state dict `{key}`; it has {found}")));
    }
    if let Some(key) = STATE_DICT_KEYS.into_iter().find(|key| is_state_dict(key)) {
        return Ok(Some(key.to_owned()));
    }
    if root.values().any(is_tensor) {
        return Ok(None);
    }
    let expected = STATE_DICT_KEYS.join("`, `");
    let found = names_of_state_dicts(&root);
    let reason = format!("expected a state dict, or one under `{expected}`; found {found}");
    Err(Error::checkpoint(path, format!("{reason}. Name the one to take as the checkpoint key")))
}

fn names_of_state_dicts(root: &HashMap<String, PickleValue>) -> String {
    let with_tensors = root.iter().filter(|(_, value)| holds_tensors(value));
    let names: BTreeSet<_> = with_tensors.map(|(key, _)| key.as_str()).collect();
    if names.is_empty() {
        return "no tensors".to_owned();
    }
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    one_line(names.join(", "))
}

fn holds_tensors(value: &PickleValue) -> bool {
    match value {
        PickleValue::Dict(entries) => entries.values().any(holds_tensors),
        PickleValue::List(items) => items.iter().any(holds_tensors),
        other => is_tensor(other),
    }
}

fn is_tensor(value: &PickleValue) -> bool {
    matches!(value, PickleValue::Unsupported(python_type) if python_type == "torch.Tensor")
}

/// How many times its own size a checkpoint may take in memory. Half precision doubles; weights
/// tied or expanded a few times over fit as well; a view with stride 0 that asks for 10 GiB does not.
const MAX_EXPANSION: u64 = 8;

/// Small files may hold a broadcast buffer: below this size no ratio is asked for.
const ALWAYS_ALLOWED: u64 = 64 << 20;

/// Refuses tensors that together would take far more memory than the file explains. The reader
/// bounds each tensor (10 GiB), but a pickle of a few kilobytes can declare thousands.
fn refuse_expansion<'a>(path: &Path, tensors: impl Iterator<Item = &'a Tensor>) -> Result<()> {
    let file_size = path.metadata().map_err(|source| Error::io("read", path, source))?.len();
    let limit = file_size.saturating_mul(MAX_EXPANSION).max(ALWAYS_ALLOWED);
    let wanted = tensors
        .filter(|tensor| decoder(tensor.dtype()).is_some())
        .map(|tensor| {
            (tensor.num_elements() as u64).saturating_mul(tensor.dtype().size().max(4) as u64)
        })
        .fold(0, u64::saturating_add);
    if wanted > limit {
        let reason =
            format!("its tensors would take {wanted} bytes of memory, the file has {file_size}");
        return Err(Error::checkpoint(path, format!("{reason}; at most {limit} are accepted")));
    }
    Ok(())
}

/// Refuses archives with compressed entries: a few kilobytes could unpack to a pickle of 100 MB,
/// which takes gigabytes once parsed. With stored entries alone, every length is bounded by the file.
pub(super) fn refuse_compressed_entries(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
    let zip_error = |error| damaged(path, PytorchError::Zip(error));
    let mut archive = ZipArchive::new(std::io::BufReader::new(file)).map_err(zip_error)?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(zip_error)?;
        if entry.compression() != CompressionMethod::Stored {
            let reason = "is a compressed archive, which `torch.save` never writes; save it again";
            return Err(Error::checkpoint(path, reason));
        }
    }
    Ok(())
}

/// `None` for the integer tensors, which a state dict leaves out.
fn decoder(dtype: DType) -> Option<Decoder> {
    match dtype {
        DType::F16 => Some(state_dict::decode_f16),
        DType::BF16 => Some(state_dict::decode_bf16),
        DType::F32 => Some(state_dict::decode_f32),
        DType::F64 => Some(state_dict::decode_f64),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => None,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => None,
    }
}

/// An error of the operating system stays one; all others mean that the file is not as it should be.
fn damaged(path: &Path, error: PytorchError) -> Error {
    match error {
        PytorchError::Io(source) if source.raw_os_error().is_some() => {
            Error::io("read", path, source)
        }
        other => {
            let cure = "if it was downloaded or copied, do so again and compare the sizes";
            let reason = one_line(other);
            Error::checkpoint(path, format!("cannot be read as PyTorch: {reason}; {cure}"))
        }
    }
}
