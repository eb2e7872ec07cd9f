//! The ImageFolder layout inside a tar or zip: `[train/]CLASS/*.jpg`, perhaps within another folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::archive::{Entry, list};
use super::image::is_image_file;
use super::image_folder::Split;
use super::picture::Picture;
use crate::{Error, Result};

/// The pictures of each class, both in alphabetical order.
pub(super) type Classes = BTreeMap<String, Vec<Picture>>;

/// Finds the folder of `split` in an archive, as `archive.zip/imagenette/train`.
pub(super) fn split_in_archive(archive: &Path, split: Split) -> Result<PathBuf> {
    let entries = visible(list(archive)?);
    let mut folders: Vec<&str> = entries.iter().flat_map(|entry| folders(&entry.name)).collect();
    // The outermost one: a class may have the name of a split.
    folders.sort_by_key(|folder| (folder.matches('/').count(), *folder));
    for name in split.names() {
        let is_split = |folder: &&&str| folder.rsplit('/').next() == Some(name);
        if let Some(folder) = folders.iter().find(is_split) {
            return Ok(archive.join(folder));
        }
    }
    let expected = split.names().join("`, `");
    let reason =
        format!("has no folder for the split `{split}` inside; expected one of `{expected}`");
    Err(Error::dataset(archive, reason))
}

/// The archive of a path such as `archive.zip/imagenette/train`, and the rest.
pub(super) fn archive_in(path: &Path) -> Option<(&Path, String)> {
    let archive = path.ancestors().find(|ancestor| ancestor.is_file())?;
    let inside = path.strip_prefix(archive).ok()?;
    Some((archive, inside.to_string_lossy().replace('\\', "/")))
}

/// Lists the classes in the folder `inside` of an archive, and in the only folder of that if it is
/// none of the `known` classes: `val.tar` may hold `val/CLASS/*.jpg`.
pub(super) fn list_classes(
    archive: &Path,
    inside: &str,
    known: Option<&[String]>,
) -> Result<Classes> {
    let mut prefix = if inside.is_empty() { String::new() } else { format!("{inside}/") };
    let mut entries = visible(list(archive)?);
    entries.retain(|entry| entry.name.starts_with(&prefix));
    while let Some(folder) = only_folder(&entries, &prefix)
        && known.is_none_or(|known| known.iter().all(|class| *class != folder))
    {
        prefix = format!("{prefix}{folder}/");
    }
    let mut classes = Classes::new();
    for Entry { name, member } in entries {
        let Some((class, _)) = name.strip_prefix(&prefix).and_then(|name| name.split_once('/'))
        else {
            continue; // a file beside the classes, or a folder, which its pictures name too
        };
        let pictures = classes.entry(class.to_owned()).or_default();
        if let Some(member) = member.filter(|_| is_image_file(Path::new(&name))) {
            pictures.push(Picture::in_archive(archive, &name, member));
        }
    }
    if classes.is_empty() {
        let reason = "holds no `<class>/<picture>.jpg`; one folder per class is expected inside";
        return Err(Error::dataset(archive.join(inside), reason));
    }
    classes.values_mut().for_each(|pictures| pictures.sort_by(|a, b| a.path().cmp(b.path())));
    Ok(classes)
}

/// The one folder that everything lies in, if it holds folders and not pictures.
fn only_folder(entries: &[Entry], prefix: &str) -> Option<String> {
    let mut parts = entries
        .iter()
        .filter(|entry| entry.member.is_some() && is_image_file(Path::new(&entry.name)))
        .filter_map(|entry| entry.name.strip_prefix(prefix))
        .map(|name| name.split('/').collect::<Vec<_>>());
    let first = parts.next().filter(|parts| parts.len() > 2)?[0];
    parts.all(|parts| parts.len() > 2 && parts[0] == first).then(|| first.to_owned())
}

/// Without hidden files and what lies in hidden folders.
fn visible(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.retain(|entry| entry.name.split('/').all(|part| !part.starts_with('.')));
    entries
}

/// The folders that a member lies in, the outermost first.
fn folders(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(end, _)| &name[..end])
}
