//! Archives read in place: what a tar or zip file holds, and where in the file.
//!
//! The list is made once. A member is then read by its place, on any thread, without unpacking.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use flate2::{Crc, read::DeflateDecoder};
use tar::EntryType;
use zip::{CompressionMethod, ZipArchive};

use super::image::{MAX_FILE_BYTES, is_image_file};
use crate::{Error, Result};

/// One thing in an archive.
pub(super) struct Entry {
    /// Its path, without `./` in front and `/` behind.
    pub name: String,
    /// Where its bytes lie; `None` of a folder.
    pub member: Option<Member>,
}

/// Where the bytes of a file in an archive lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    archive: Arc<Path>,
    offset: u64,
    /// Bytes in the archive.
    packed: u64,
    packing: Packing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Packing {
    /// Of a tar.
    Plain,
    /// Of a zip, with the checksum.
    Stored { crc: u32 },
    /// Of a zip, with size and checksum once unpacked.
    Deflated { size: u64, crc: u32 },
}

/// Whether the extension of `path` is that of an archive, readable or not.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".tar", ".zip", ".tar.gz", ".tgz"].iter().any(|extension| name.ends_with(extension))
}

/// Everything in the archive at `path`, in the archive's order.
pub(super) fn list(path: &Path) -> Result<Vec<Entry>> {
    let read_error = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(read_error)?;
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start).map_err(read_error)?;
    file.rewind().map_err(read_error)?;
    match &start[..] {
        b"PK" => list_zip(path, file),
        [0x1F, 0x8B] => {
            let reason = "is compressed as a whole, so that no picture can be read by its place; \
                          unpack it with `gunzip -k` and name the .tar";
            Err(Error::dataset(path, reason))
        }
        _ => list_tar(path, file),
    }
}

fn list_tar(path: &Path, file: File) -> Result<Vec<Entry>> {
    const BLOCK: u64 = 512;
    let damaged = |error: io::Error| Error::dataset(path, format!("damaged tar ({error}); {COPY}"));
    let length = file.metadata().map_err(damaged)?.len();
    let archive: Arc<Path> = path.into();
    let mut entries = Vec::new();
    let mut end = 0;
    let mut tar = tar::Archive::new(file);
    for entry in tar.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        end = offset.saturating_add(size).div_ceil(BLOCK).saturating_mul(BLOCK);
        if end > length {
            return Err(Error::dataset(path, format!("truncated within `{name}`; {COPY}")));
        }
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let archive = archive.clone();
                Some(Member { archive, offset, packed: size, packing: Packing::Plain })
            }
            EntryType::Directory => None,
            kind if is_image_file(Path::new(&name)) => {
                let cure = "pack again with `tar --dereference --hard-dereference`";
                let reason = format!("`{name}` is no file of its own ({kind:?}); {cure}");
                return Err(Error::dataset(path, reason));
            }
            _ => continue,
        };
        entries.push(Entry { name: tidy(&name), member });
    }
    // Two empty blocks end a tar; without one, pictures may be missing.
    if length < end + BLOCK {
        return Err(Error::dataset(path, format!("truncated: its end marker is missing; {COPY}")));
    }
    Ok(entries)
}

fn list_zip(path: &Path, file: File) -> Result<Vec<Entry>> {
    let damaged = |error: &dyn std::error::Error| {
        Error::dataset(path, format!("damaged zip ({error}); {COPY}"))
    };
    let length = file.metadata().map_err(|error| damaged(&error))?.len();
    let archive: Arc<Path> = path.into();
    let mut zip = ZipArchive::new(file).map_err(|error| damaged(&error))?;
    let mut entries = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(|error| damaged(&error))?;
        let name = entry.name().map_err(|error| damaged(&error))?.into_owned();
        if entry.is_dir() || !is_image_file(Path::new(&name)) {
            entries.push(Entry { name: tidy(&name), member: None });
            continue;
        }
        let refuse = |problem: String| {
            let reason = format!("`{name}` {problem}; pack again with `zip -0 -r`");
            Err(Error::dataset(path, reason))
        };
        if entry.encrypted() {
            return refuse("is encrypted".to_owned());
        }
        let crc = entry.crc32();
        let packing = match entry.compression() {
            CompressionMethod::Stored => Packing::Stored { crc },
            CompressionMethod::Deflated => Packing::Deflated { size: entry.size(), crc },
            other => return refuse(format!("is compressed by {other}, which is not supported")),
        };
        let packed = entry.compressed_size();
        let offset = entry.data_start().filter(|start| start.saturating_add(packed) <= length);
        let Some(offset) = offset else {
            return Err(Error::dataset(path, format!("truncated within `{name}`; {COPY}")));
        };
        let member = Member { archive: archive.clone(), offset, packed, packing };
        entries.push(Entry { name: tidy(&name), member: Some(member) });
    }
    Ok(entries)
}

const COPY: &str = "copy or download it again";

fn tidy(name: &str) -> String {
    let parts = name.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

impl Member {
    /// The bytes of the file; `name` stands for it in error messages.
    pub(super) fn read(&self, name: &Path) -> Result<Vec<u8>> {
        self.unpacked().map_err(|reason| Error::image(name, format!("{reason}; {COPY}")))
    }

    fn unpacked(&self) -> Result<Vec<u8>, String> {
        let size = match self.packing {
            Packing::Deflated { size, .. } => size,
            _ => self.packed,
        };
        if size.max(self.packed) > MAX_FILE_BYTES {
            return Err(format!("has {size} bytes, the limit is {MAX_FILE_BYTES}"));
        }
        let bytes = self.bytes().map_err(|error| format!("cannot be read ({error})"))?;
        let (bytes, crc) = match self.packing {
            Packing::Plain => return Ok(bytes),
            Packing::Stored { crc } => (bytes, crc),
            Packing::Deflated { size, crc } => {
                let mut unpacked = Vec::with_capacity(size as usize);
                let decoder = DeflateDecoder::new(&bytes[..]).take(size + 1);
                let read = { decoder }.read_to_end(&mut unpacked);
                read.map_err(|error| format!("cannot be unpacked ({error})"))?;
                (unpacked, crc)
            }
        };
        let mut found = Crc::new();
        found.update(&bytes);
        match found.sum() == crc && bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err("differs from its checksum in the archive".to_owned()),
        }
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.archive)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = vec![0; self.packed as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
