//! Which kind of file this is, told from its first bytes and never from its name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// The checkpoint formats that can be read.
#[derive(Debug, PartialEq)]
pub(super) enum Format {
    /// A length, a JSON header, the tensors.
    Safetensors,
    /// What `torch.save` writes since PyTorch 1.6: a ZIP archive of a pickle and its storages.
    PytorchZip,
    /// What `torch.save` wrote before: a stream of pickles and storages.
    PytorchLegacy,
}

impl Format {
    /// The format of the file at `path`, or an error that says what the file is instead.
    pub(super) fn detect(path: &Path) -> Result<Self> {
        let read_error = |source| Error::io("read", path, source);
        let metadata = path.metadata().map_err(read_error)?;
        if metadata.is_dir() {
            return Err(Error::checkpoint(path, "is a folder; give the checkpoint file inside it"));
        }
        // A pipe or a device could block or never end.
        if !metadata.is_file() {
            return Err(Error::checkpoint(path, "is not a regular file; copy it to one first"));
        }
        let mut start = Vec::new();
        let file = File::open(path).map_err(read_error)?;
        file.take(TAR_MAGIC_AT + 5).read_to_end(&mut start).map_err(read_error)?;
        Self::of(&start).map_err(|found| {
            let expected = "expected safetensors or a PyTorch `.pth`";
            Error::checkpoint(path, format!("is {found}; {expected}"))
        })
    }

    fn of(start: &[u8]) -> std::result::Result<Self, &'static str> {
        // The last byte of any sensible header length, then the header. Text has no zero byte.
        let json_follows = start.get(7..9) == Some(b"\0{");
        match start {
            [] => Err("empty: the download or the copy failed, repeat it"),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Self::PytorchZip),
            _ if json_follows => Ok(Self::Safetensors),
            _ if contains(&start[..start.len().min(64)], LEGACY_MAGIC) => Ok(Self::PytorchLegacy),
            _ => Err(name_stranger(start)),
        }
    }
}

/// 0x1950a86a20f9469cfc6c, the number that opens every legacy checkpoint, as the pickle holds it.
const LEGACY_MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Where a TAR header has its `ustar`.
const TAR_MAGIC_AT: u64 = 257;

/// Names what people most often pass by mistake, each with its cure.
fn name_stranger(start: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    if text.starts_with("version https://git-lfs") {
        "a Git LFS pointer, not the weights themselves: run `git lfs pull`"
    } else if text.starts_with("<!doctype")
        || text.starts_with("<html")
        || text.starts_with("<?xml")
    {
        "a web page: the download returned an error or a login page, open the link in a browser"
    } else if start.starts_with(b"\x89PNG")
        || start.starts_with(b"\xff\xd8\xff")
        || start.starts_with(b"GIF8")
    {
        "a picture"
    } else if start.get(TAR_MAGIC_AT as usize..) == Some(b"ustar") {
        "a TAR archive: unpack it, or if PyTorch before 0.1.10 wrote it, save it again with a newer one"
    } else if start.starts_with(b"\x1f\x8b") {
        "a gzip archive: unpack it"
    } else if start.starts_with(&[0x80]) {
        "a pickle without tensors: save the weights with `torch.save(model.state_dict(), path)`"
    } else {
        "not a checkpoint"
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
