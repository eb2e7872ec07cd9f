//! Data sets in ImageFolder layout: one folder per class, the folder's name is the class. Folders may
//! lie in a tar or zip; shards of a WebDataset are listed here too.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::is_archive;
use super::archive_folder::{Classes, archive_in, list_classes, split_in_archive};
use super::image::is_image_file;
use super::picture::Picture;
use super::webdataset;
use crate::{Error, Result};

const LAYOUT: &str = "expected `<this folder>/<class>/<picture>.jpg`, one folder per class";

/// A list of pictures with their classes; no picture is opened.
///
/// The order is that of the names, on every machine and at every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    /// Names of the classes; the position is the class index.
    pub classes: Vec<String>,
    /// Every picture with its class index, class after class.
    pub samples: Vec<(Picture, usize)>,
}

impl ImageFolder {
    /// Lists `root`, whose folders are the classes, in alphabetical order.
    ///
    /// Pictures may lie in folders within a class folder. Hidden files and folders, and files that
    /// are no pictures by their extension, are skipped. Links are followed, each folder once.
    ///
    /// `root` may also be a tar or zip, a folder in one (`set.zip/train`), a folder of WebDataset
    /// shards, or such shards by name (`train-*.tar`).
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        if let Some(shards) = shards_at(root)? {
            let folder = webdataset::open(&shards, None)?;
            check_classes(root, &folder.classes)?;
            return Ok(folder);
        }
        let pictures = Layout::of(root, None)?;
        let classes = pictures.names();
        check_classes(root, &classes)?;
        let samples = pictures.samples(root, classes.iter().enumerate())?;
        Ok(Self { classes, samples })
    }

    /// Lists a validation set with the classes, and so the class indices, of the training set.
    ///
    /// It may lack some of the classes, but all that it has must be among `classes`.
    pub fn open_with_classes(root: impl AsRef<Path>, classes: &[String]) -> Result<Self> {
        let root = root.as_ref();
        if let Some(shards) = shards_at(root)? {
            return webdataset::open(&shards, Some(classes));
        }
        let pictures = Layout::of(root, Some(classes))?;
        let found = pictures.names();
        let unknown: Vec<_> =
            found.iter().filter(|class| !classes.contains(class)).map(String::as_str).collect();
        if !unknown.is_empty() {
            let reason = format!(
                "{} class folders are not among the {} training classes: `{}`; rename or remove them",
                unknown.len(),
                classes.len(),
                unknown.join("`, `")
            );
            return Err(Error::dataset(root, reason));
        }
        let present = classes.iter().enumerate().filter(|(_, class)| found.contains(class));
        let samples = pictures.samples(root, present)?;
        Ok(Self { classes: classes.to_vec(), samples })
    }
}

/// Where the class folders are.
enum Layout {
    Disk(Vec<String>),
    Archive(Classes),
}

impl Layout {
    fn of(root: &Path, known: Option<&[String]>) -> Result<Self> {
        match archive_in(root) {
            Some((archive, inside)) if is_archive(archive) => {
                Ok(Self::Archive(list_classes(archive, &inside, known)?))
            }
            _ => Ok(Self::Disk(class_folders(root)?)),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Disk(names) => names.clone(),
            Self::Archive(classes) => classes.keys().cloned().collect(),
        }
    }

    /// The pictures of `classes`, in their order; an error if one has none.
    fn samples<'a>(
        mut self,
        root: &Path,
        classes: impl Iterator<Item = (usize, &'a String)>,
    ) -> Result<Vec<(Picture, usize)>> {
        let mut samples = Vec::new();
        for (index, class) in classes {
            let pictures = match &mut self {
                Self::Disk(_) => {
                    pictures_below(&root.join(class))?.into_iter().map(Picture::from).collect()
                }
                Self::Archive(classes) => classes.remove(class).unwrap_or_default(),
            };
            if pictures.is_empty() {
                let reason = format!(
                    "class folder `{class}` holds no JPEG, PNG, WebP or GIF; fill or remove it"
                );
                return Err(Error::dataset(root, reason));
            }
            samples.extend(pictures.into_iter().map(|picture| (picture, index)));
        }
        Ok(samples)
    }
}

/// What a classifier can learn: two classes or more, and not the splits.
fn check_classes(root: &Path, classes: &[String]) -> Result<()> {
    if let [class] = classes {
        let reason =
            format!("there is only one class, `{class}`; a classifier needs two or more; {LAYOUT}");
        return Err(Error::dataset(root, reason));
    }
    if classes.iter().all(|class| Split::named(class).is_some()) {
        let found = classes.join("`, `");
        let reason = format!(
            "`{found}` are splits, not classes; name one of these folders instead of the one above"
        );
        return Err(Error::dataset(root, reason));
    }
    Ok(())
}

/// The shards that `root` names, if it names shards.
fn shards_at(root: &Path) -> Result<Option<Vec<PathBuf>>> {
    if root.is_file() {
        return Ok(webdataset::is_shard(root)?.then(|| vec![root.to_owned()]));
    }
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let (folder, prefix) = match name.strip_suffix("*.tar") {
        Some(prefix) => {
            let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), prefix)
        }
        None => (root, ""),
    };
    if !folder.is_dir() || (prefix.is_empty() && !folder_names(root)?.is_empty()) {
        return Ok(None);
    }
    let mut found = visible_entries(folder)?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(".tar") && path.is_file()
    });
    Ok(Some(found).filter(|shards| !shards.is_empty()))
}

/// Which part of a data set is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The pictures to learn from: `train`.
    Train,
    /// The pictures to measure on: `val`, or else `validation`, `valid`, `test`.
    Val,
}

impl Split {
    /// Folder names that this split goes by, the preferred one first.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Val => &["val", "validation", "valid", "test"],
        }
    }

    /// The split that goes by `name`.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Train, Self::Val].into_iter().find(|split| split.names().contains(&name))
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.names()[0])
    }
}

/// Finds `split` in a data set: a folder or an archive under `root`, or a folder in the archive `root`.
///
/// The answer is for [`ImageFolder::open`]: `root/train`, `root/train.tar`, `root/train-*.tar`, or
/// `root.zip/train`.
pub fn split_folder(root: impl AsRef<Path>, split: Split) -> Result<PathBuf> {
    let root = root.as_ref();
    if root.is_file() && is_archive(root) {
        return split_in_archive(root, split);
    }
    let present = folder_names(root)?;
    if let Some(name) = split.names().iter().find(|name| present.iter().any(|p| p == *name)) {
        return Ok(root.join(name));
    }
    for name in split.names() {
        let archives = ["tar", "zip", "tar.gz"].map(|kind| root.join(format!("{name}.{kind}")));
        if let Some(archive) = archives.into_iter().find(|archive| archive.is_file()) {
            return Ok(archive);
        }
        let shards = root.join(format!("{name}-*.tar"));
        if shards_at(&shards)?.is_some() {
            return Ok(shards);
        }
    }
    let expected = split.names().join("`, `");
    let reason = format!(
        "has no folder for the split `{split}`; expected one of `{expected}`, {}",
        found(&present)
    );
    Err(Error::dataset(root, reason))
}

/// The class names under `root`, sorted; an error if there are none.
fn class_folders(root: &Path) -> Result<Vec<String>> {
    let classes = folder_names(root)?;
    if classes.is_empty() {
        let pictures = visible_entries(root)?.iter().filter(|path| is_image_file(path)).count();
        let problem = match pictures {
            0 => "holds neither class folders nor pictures".to_owned(),
            _ => format!("holds {pictures} pictures but no class folders; sort them into folders"),
        };
        return Err(Error::dataset(root, format!("{problem}; {LAYOUT}")));
    }
    Ok(classes)
}

/// The pictures in `folder` and in the folders within it, sorted.
pub(super) fn pictures_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    collect_pictures(folder, &mut HashSet::new(), &mut pictures)?;
    pictures.sort();
    Ok(pictures)
}

/// Adds the pictures below `folder`; `seen` holds the true paths so far, against loops of links.
fn collect_pictures(
    folder: &Path,
    seen: &mut HashSet<PathBuf>,
    pictures: &mut Vec<PathBuf>,
) -> Result<()> {
    let true_path =
        fs::canonicalize(folder).map_err(|source| Error::io("open the folder", folder, source))?;
    if !seen.insert(true_path) {
        return Ok(());
    }
    for path in visible_entries(folder)? {
        if path.is_dir() {
            collect_pictures(&path, seen, pictures)?;
        } else if is_image_file(&path) {
            // Asked now, so that a broken link stops the run here and not after an hour of training.
            fs::metadata(&path).map_err(|source| Error::io("find the picture", &path, source))?;
            pictures.push(path);
        }
    }
    Ok(())
}

/// Sorted names of the folders in `root`.
pub(super) fn folder_names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in visible_entries(root)?.into_iter().filter(|path| path.is_dir()) {
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => names.push(name.to_owned()),
            None => {
                return Err(Error::dataset(
                    root,
                    format!("the folder name {path:?} is not UTF-8; rename it"),
                ));
            }
        }
    }
    Ok(names)
}

/// Paths in `folder` whose names do not begin with a dot, sorted.
pub(super) fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Err(Error::dataset(folder, format!("the folder does not exist; {LAYOUT}")));
    }
    if !folder.is_dir() {
        return Err(Error::dataset(folder, format!("is a file, not a folder; {LAYOUT}")));
    }
    let read_error = |source| Error::io("list the folder", folder, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn found(folders: &[String]) -> String {
    match folders {
        [] => "found no folder at all".to_owned(),
        _ => format!("found `{}`", folders.join("`, `")),
    }
}
