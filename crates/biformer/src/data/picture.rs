//! A picture that is not opened yet.

use std::path::{Path, PathBuf};

use super::RgbImage;
use super::archive::Member;
use super::image::{decode_bytes, read_file};
use crate::Result;

/// A picture in a file of its own or in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    path: PathBuf,
    member: Option<Member>,
}

impl Picture {
    pub(super) fn in_archive(archive: &Path, name: &str, member: Member) -> Self {
        Self { path: archive.join(name), member: Some(member) }
    }

    /// The file; in an archive, the path of the archive with that in the archive behind it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and decodes the picture, as [`decode`](super::decode).
    ///
    /// # Shapes
    /// - output: `[height, width, 3]`
    pub fn decode(&self) -> Result<RgbImage> {
        decode_bytes(&self.read()?, &self.path)
    }

    /// The bytes of the file.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        match &self.member {
            Some(member) => member.read(&self.path),
            None => read_file(&self.path),
        }
    }
}

impl From<PathBuf> for Picture {
    fn from(path: PathBuf) -> Self {
        Self { path, member: None }
    }
}
