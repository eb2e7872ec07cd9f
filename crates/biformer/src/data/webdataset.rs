//! WebDataset shards: tar files in which `key.jpg` lies beside `key.cls`, the number of its class.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{Entry, list};
use super::image_folder::ImageFolder;
use super::picture::Picture;
use crate::{Error, Result};

const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "gif"];

/// Whether a tar holds `.cls` members.
pub(super) fn is_shard(path: &Path) -> Result<bool> {
    let is_tar = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
    Ok(is_tar && list(path)?.iter().any(|entry| entry.name.ends_with(".cls")))
}

/// Lists the pictures of all shards, in the order of the shards and within them.
///
/// The classes are named by the lines of `classes.txt`, beside the shards or one folder above, or
/// as in `known`, or else `class_0`, `class_1` and so on.
pub(super) fn open(shards: &[PathBuf], known: Option<&[String]>) -> Result<ImageFolder> {
    let mut samples = Vec::new();
    for shard in shards {
        samples.extend(list_shard(shard)?);
    }
    let Some((first, _)) = shards.first().zip(samples.first()) else {
        let root = shards.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        return Err(Error::dataset(root, "no shard holds a picture `key.jpg` with its `key.cls`"));
    };
    let named = read_classes(first)?;
    let found = samples.iter().map(|(_, class)| class + 1).max().unwrap_or_default();
    let classes = match (&named, known) {
        (Some(named), _) => named.clone(),
        (None, Some(known)) => known.to_vec(),
        (None, None) => (0..found).map(|class| format!("class_{class}")).collect(),
    };
    if let Some((picture, class)) = samples.iter().find(|(_, class)| *class >= classes.len()) {
        let reason = format!(
            "class {class}, but there are {} classes, counted from 0; correct its .cls or `classes.txt`",
            classes.len()
        );
        return Err(Error::dataset(picture.path(), reason));
    }
    let Some(known) = known.filter(|_| named.is_some()) else {
        return Ok(ImageFolder { classes, samples });
    };
    // The shards have names of their own: numbers become those of the training set.
    for (picture, class) in &mut samples {
        let name = &classes[*class];
        *class = known.iter().position(|known| known == name).ok_or_else(|| {
            let reason = format!(
                "class `{name}` is not among the {} training classes; correct `classes.txt`",
                known.len()
            );
            Error::dataset(picture.path(), reason)
        })?;
    }
    Ok(ImageFolder { classes: known.to_vec(), samples })
}

fn list_shard(shard: &Path) -> Result<Vec<(Picture, usize)>> {
    let error = |member: &str, reason: String| Err(Error::dataset(shard.join(member), reason));
    let (mut pictures, mut labels) = (Vec::new(), HashMap::new());
    for Entry { name, member } in list(shard)? {
        let Some(member) = member else { continue };
        // As in WebDataset, the key ends with the first dot of the file's name.
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = name[file..].find('.').filter(|dot| *dot > 0) else { continue };
        let (key, extension) = (&name[..file + dot], name[file + dot + 1..].to_ascii_lowercase());
        if extension == "cls" {
            let bytes = member.read(&shard.join(&name))?;
            let text = String::from_utf8_lossy(&bytes);
            let Ok(class) = text.trim().parse::<u32>() else {
                let found: String = text.chars().take(20).collect();
                return error(&name, format!("expected the number of a class, found {found:?}"));
            };
            labels.insert(key.to_owned(), class as usize);
        } else if EXTENSIONS.contains(&extension.as_str()) {
            let picture = Picture::in_archive(shard, &name, member);
            pictures.push((key.to_owned(), name.clone(), picture));
        }
    }
    let mut samples = Vec::with_capacity(pictures.len());
    for (key, name, picture) in pictures {
        match labels.get(&key) {
            Some(class) => samples.push((picture, *class)),
            None => {
                return error(
                    &name,
                    format!("has no `{key}.cls` beside it; write its class there"),
                );
            }
        }
    }
    Ok(samples)
}

fn read_classes(shard: &Path) -> Result<Option<Vec<String>>> {
    let folders = shard.ancestors().skip(1).take(2);
    let Some(path) = folders.map(|folder| folder.join("classes.txt")).find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let text = fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source))?;
    Ok(Some(text.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect()))
}
