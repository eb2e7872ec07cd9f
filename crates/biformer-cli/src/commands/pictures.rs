//! Pictures that are named on the command line.

use std::collections::BTreeSet;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use biformer::Error;
use biformer::data::{RgbImage, decode, decode_bytes, is_image_file};
use biformer::distributed::World;

/// In place of a file: one picture on standard input.
pub(super) const STDIN: &str = "-";

/// Files as they are, folders and globs spelled out, in sorted order each.
pub(super) fn list_pictures(sources: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut pictures = Vec::new();
    for source in sources {
        let path = PathBuf::from(source);
        if source == STDIN || path.is_file() {
            pictures.push(path);
        } else if path.is_dir() {
            let before = pictures.len();
            list_folder(&path, &mut pictures)?;
            if pictures.len() == before {
                let reason = "holds no picture (jpg, jpeg, png, webp, gif)";
                return Err(Error::dataset(&path, reason));
            }
        } else {
            let matches: Vec<PathBuf> = glob::glob(source)
                .map(|paths| paths.flatten().filter(|path| path.is_file()).collect())
                .unwrap_or_default();
            if matches.is_empty() {
                let reason = "is no file, no folder, and matches nothing as a glob";
                return Err(Error::dataset(&path, reason));
            }
            pictures.extend(matches);
        }
    }
    Ok(pictures)
}

fn list_folder(folder: &Path, pictures: &mut Vec<PathBuf>) -> Result<(), Error> {
    let io = |source| Error::io("read the folder", folder, source);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        entries.push(entry.map_err(io)?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_file() && is_image_file(&path) {
            pictures.push(path);
        } else if path.is_dir() && !path.is_symlink() {
            list_folder(&path, pictures)?;
        }
    }
    Ok(())
}

/// An error if several processes would read the one standard input.
pub(super) fn refuse_shared_stdin(pictures: &[PathBuf], world: &World) -> Result<(), Error> {
    if world.size() > 1 && pictures.iter().any(|path| path.as_os_str() == STDIN) {
        let reason = "standard input goes to one process only; name a file or start without mpirun";
        return Err(Error::option("PICTURE", reason));
    }
    Ok(())
}

/// The picture in a file or on standard input.
pub(super) fn read(path: &Path) -> Result<RgbImage, Error> {
    if path.as_os_str() != STDIN {
        return decode(path);
    }
    let mut bytes = Vec::new();
    stdin().lock().read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
    decode_bytes(&bytes, Path::new("standard input"))
}

/// A name after that of the picture, which neither others nor `reserved` have.
pub(super) fn free_name(path: &Path, taken: &BTreeSet<String>, reserved: &[&str]) -> String {
    let stem = match path.file_stem() {
        Some(stem) if path.as_os_str() != STDIN => stem.to_string_lossy().into_owned(),
        _ => "stdin".to_owned(),
    };
    let numbered = (2..).map(|number| format!("{stem}_{number}"));
    let mut candidates = std::iter::once(stem.clone()).chain(numbered);
    let is_free = |name: &String| !reserved.contains(&name.as_str()) && !taken.contains(name);
    candidates.find(is_free).expect("numbers do not end")
}
