//! Reading and writing safetensors: `u64` header length, JSON header, tensors end to end.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::{Error, Result};

use super::format::Format;
use super::load::one_line;
use super::state_dict::{self, Decoder, StateDict, StateTensor};

/// Writes `tensors` and `metadata` as safetensors, whole or not at all (see [`write_atomically`]).
///
/// Equal input gives equal bytes: the header and the data are in alphabetical order. (The
/// `safetensors` crate writes metadata in the order of a hash map, so the header is made here.)
///
/// # Errors
///
/// If the file cannot be written, or a tensor's data does not fit its shape.
pub fn write_safetensors(
    path: &Path,
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    write(path, tensors, metadata, Dtype::F32, f32::to_le_bytes)
}

/// The same with numbers of 16 bits (f16): half the size, three digits.
///
/// # Errors
///
/// Like [`write_safetensors`], and if a number is beyond the range of f16.
pub fn write_safetensors_half(
    path: &Path,
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    for (name, tensor) in tensors {
        let beyond = |value: &&f32| value.is_finite() && !f16::from_f32(**value).is_finite();
        if let Some(value) = tensor.data.iter().find(beyond) {
            let reason = format!("`{name}` holds {value}, beyond the range of f16; write f32");
            return Err(Error::checkpoint(path, reason));
        }
    }
    write(path, tensors, metadata, Dtype::F16, |value| f16::from_f32(value).to_le_bytes())
}

fn write<const BYTES: usize>(
    path: &Path,
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
    dtype: Dtype,
    encode: impl Fn(f32) -> [u8; BYTES],
) -> Result<()> {
    let header = header(tensors, metadata, dtype, BYTES);
    let header = header.map_err(|reason| Error::checkpoint(path, reason))?;
    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for element in tensors.values().flat_map(|tensor| &tensor.data) {
            file.write_all(&encode(*element))?;
        }
        Ok(())
    })
}

/// Reads the metadata of a safetensors file, without its tensors.
///
/// # Errors
///
/// If the file is not safetensors; other checkpoints have no metadata.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    if Format::detect(path)? != Format::Safetensors {
        return Err(Error::checkpoint(path, "has no metadata: only safetensors carry it"));
    }
    let read_error = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(read_error)?;
    let file_size = file.metadata().map_err(read_error)?.len();
    metadata_of(path, &mut file, file_size)
}

/// [`read_metadata`] of a file in memory; `name` stands for it in errors.
pub(crate) fn metadata_in(name: &Path, bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    metadata_of(name, &mut &*bytes, bytes.len() as u64)
}

fn metadata_of(
    path: &Path,
    file: &mut impl Read,
    file_size: u64,
) -> Result<BTreeMap<String, String>> {
    let header = read_header(path, file, file_size)?;
    let header: MetadataOnly =
        serde_json::from_slice(&header).map_err(|error| damaged(path, one_line(error)))?;
    Ok(header.metadata.unwrap_or_default())
}

/// Reads all floating-point tensors of a safetensors file, one after the other: the file itself
/// is never in memory as a whole.
pub(super) fn read(path: &Path) -> Result<StateDict> {
    let read_error = |source| Error::io("read", path, source);
    let mut file = BufReader::new(File::open(path).map_err(read_error)?);
    let file_size = file.get_ref().metadata().map_err(read_error)?.len();
    tensors_of(path, &mut file, file_size)
}

/// All floating-point tensors of a file in memory; `name` stands for it in errors.
pub(crate) fn state_dict_in(name: &Path, bytes: &[u8]) -> Result<StateDict> {
    tensors_of(name, &mut &*bytes, bytes.len() as u64)
}

fn tensors_of(path: &Path, file: &mut impl Read, file_size: u64) -> Result<StateDict> {
    let read_error = |source| Error::io("read", path, source);
    let header = read_header(path, file, file_size)?;
    let data_start = (size_of::<u64>() + header.len()) as u64;
    let Header { tensors, .. } =
        serde_json::from_slice(&header).map_err(|error| damaged(path, one_line(error)))?;
    let mut tensors: Vec<(String, TensorInfo)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    // Checks that shapes, types and offsets agree and leave no gap.
    let layout =
        Metadata::new(None, tensors.clone()).map_err(|error| damaged(path, one_line(error)))?;
    if data_start + layout.data_len() as u64 != file_size {
        return Err(damaged(path, "its header and its length disagree".to_owned()));
    }
    let mut state_dict = StateDict::new();
    let mut bytes = Vec::new();
    for (name, TensorInfo { dtype, shape, data_offsets: (start, end) }) in tensors {
        let decode = decoder(dtype).map_err(|dtype| {
            let reason = format!("`{}` has elements of type {dtype}", one_line(&name));
            Error::checkpoint(path, format!("{reason}; expected F16, BF16, F32 or F64"))
        })?;
        bytes.resize(end - start, 0);
        file.read_exact(&mut bytes).map_err(read_error)?;
        if let Some(decode) = decode {
            state_dict.insert(name, StateTensor::new(shape, decode(&bytes)));
        }
    }
    Ok(state_dict)
}

/// An entry of the JSON header.
#[derive(Serialize)]
#[serde(untagged)]
enum HeaderEntry<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor(TensorInfo),
}

/// The JSON header.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    _metadata: Option<IgnoredAny>,
    #[serde(flatten)]
    tensors: HashMap<String, TensorInfo>,
}

/// The header's one entry that is not a tensor.
#[derive(Deserialize)]
struct MetadataOnly {
    #[serde(rename = "__metadata__")]
    metadata: Option<BTreeMap<String, String>>,
}

const METADATA_KEY: &str = "__metadata__";

fn header(
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
    dtype: Dtype,
    element: usize,
) -> std::result::Result<Vec<u8>, String> {
    let mut entries = BTreeMap::new();
    let mut offset = 0;
    for (name, StateTensor { shape, data }) in tensors {
        let expected =
            shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        if expected != Some(data.len()) {
            return Err(format!("`{name}` has {} elements for shape {shape:?}", data.len()));
        }
        let end = offset + data.len() * element;
        let info = TensorInfo { dtype, shape: shape.clone(), data_offsets: (offset, end) };
        entries.insert(name.as_str(), HeaderEntry::Tensor(info));
        offset = end;
    }
    if entries.insert(METADATA_KEY, HeaderEntry::Metadata(metadata)).is_some() {
        return Err(format!("a tensor cannot be called `{METADATA_KEY}`"));
    }
    let mut json = serde_json::to_vec(&entries).map_err(|error| error.to_string())?;
    json.resize(json.len().next_multiple_of(8), b' '); // aligns the tensors, as other writers do
    Ok(json)
}

/// The header at the start of a file.
fn read_header(path: &Path, file: &mut impl Read, file_size: u64) -> Result<Vec<u8>> {
    let read_error = |source| Error::io("read", path, source);
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(read_error)?;
    let length = u64::from_le_bytes(length);
    if length > file_size.saturating_sub(8) {
        return Err(damaged(path, "its header and its length disagree".to_owned()));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(read_error)?;
    Ok(header)
}

/// `None` for the integer tensors, which a state dict leaves out; `Err` for what no model here uses.
fn decoder(dtype: Dtype) -> std::result::Result<Option<Decoder>, Dtype> {
    match dtype {
        Dtype::F16 => Ok(Some(state_dict::decode_f16)),
        Dtype::BF16 => Ok(Some(state_dict::decode_bf16)),
        Dtype::F32 => Ok(Some(state_dict::decode_f32)),
        Dtype::F64 => Ok(Some(state_dict::decode_f64)),
        Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::BOOL => Ok(None),
        Dtype::U64 | Dtype::U32 | Dtype::U16 | Dtype::U8 => Ok(None),
        other => Err(other),
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    let cure = "if it was downloaded or copied, do so again and compare the sizes";
    Error::checkpoint(path, format!("cannot be read as safetensors: {reason}; {cure}"))
}
