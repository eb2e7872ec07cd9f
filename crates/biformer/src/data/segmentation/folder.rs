//! The pictures of a data set with their label files: listed, paired, and read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::super::image::picture_size;
use super::super::image_folder::pictures_below;
use super::super::{Example, Picture, RgbImage};
use super::seg_map::{IGNORE_INDEX, LabelTable, SegMap};
use super::set::{SegmentationSet, SplitFolders};
use crate::{Error, Result};

/// A part of a data set; no picture is opened.
///
/// The order is that of the names, on every machine and at every call.
#[derive(Debug, Clone)]
pub struct SegmentationFolder {
    /// What the data set consists of.
    pub set: SegmentationSet,
    /// Every picture with its label file.
    pub samples: Vec<LabeledPicture>,
}

/// A picture and the file that says the class of each of its pixels.
#[derive(Debug, Clone)]
pub struct LabeledPicture {
    /// The picture.
    pub image: Picture,
    /// The label file.
    pub labels: PathBuf,
    table: Arc<LabelTable>,
}

impl Example for LabeledPicture {
    type Decoded = (RgbImage, SegMap);

    fn path(&self) -> &Path {
        self.image.path()
    }

    /// # Errors
    /// [`Error::Image`] if one of them cannot be read, a label is no class, or their sizes differ.
    fn decode(&self) -> Result<(RgbImage, SegMap)> {
        let image = self.image.decode()?;
        let map = self.table.read(&self.labels)?;
        self.check_size(image.dimensions(), &map)?;
        Ok((image, map))
    }
}

impl LabeledPicture {
    fn check_size(&self, image: (u32, u32), map: &SegMap) -> Result<()> {
        if image == map.dimensions() {
            return Ok(());
        }
        let ((width, height), (map_width, map_height)) = (image, map.dimensions());
        let reason = format!(
            "has {map_width}x{map_height} labels, but `{}` has {width}x{height} pixels; each pixel \
             needs its label",
            self.image.path().display()
        );
        Err(Error::image(&self.labels, reason))
    }
}

impl SegmentationFolder {
    /// Lists the part `split` of the data set in `root`.
    ///
    /// Pictures may lie in folders within the folder of the part, label files then in folders of the
    /// same names. Hidden files, and files without the suffixes of the set, are skipped.
    ///
    /// # Errors
    /// [`Error::Dataset`] if the set has no such part or no picture in it, or if a picture or a label file
    /// lacks its partner.
    pub fn open(root: &Path, set: SegmentationSet, split: &str) -> Result<Self> {
        let Some(folders) = set.splits.get(split) else {
            let known = set.splits.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let reason = format!("has no part `{split}`, only {}", known.join(", "));
            return Err(Error::dataset(root, reason));
        };
        let pairs = all_pairs(root, &set, folders)?;
        if pairs.is_empty() {
            let ending = if set.image_suffix.is_empty() { "*" } else { &set.image_suffix };
            let reason = format!("holds no picture `{ending}`");
            return Err(Error::dataset(root.join(&folders.images), reason));
        }
        let table = Arc::new(set.label_table());
        let sample = |(image, labels): (PathBuf, PathBuf)| LabeledPicture {
            image: image.into(),
            labels,
            table: table.clone(),
        };
        Ok(Self { samples: pairs.into_iter().map(sample).collect(), set })
    }

    /// Reads all label files, checks that each has the size of its picture, and counts the pixels of each
    /// class.
    ///
    /// # Errors
    /// Those of [`LabeledPicture::decode`], but for pixels of the pictures, which are not decoded.
    pub fn count_pixels(&self) -> Result<Vec<u64>> {
        let classes = self.set.classes.len();
        let count = |sample: &LabeledPicture| {
            let map = sample.table.read(&sample.labels)?;
            sample.check_size(picture_size(sample.image.path())?, &map)?;
            let mut counts = vec![0; classes];
            for class in map.into_raw().into_iter().filter(|&class| class != IGNORE_INDEX) {
                counts[usize::from(class)] += 1;
            }
            Ok(counts)
        };
        let add = |a: Vec<u64>, b: Vec<u64>| Ok(a.iter().zip(&b).map(|(a, b)| a + b).collect());
        self.samples.par_iter().map(count).try_reduce(|| vec![0; classes], add)
    }
}

/// Pictures and label files, paired as far as they can be.
pub(in crate::data) struct Pairs {
    pub pairs: Vec<(PathBuf, PathBuf)>,
    pub images_alone: Vec<PathBuf>,
    pub labels_alone: Vec<PathBuf>,
}

/// The files of a part of a data set.
pub(in crate::data) fn pair_files(
    root: &Path,
    set: &SegmentationSet,
    folders: &SplitFolders,
) -> Result<Pairs> {
    if let Some(list) = &folders.list {
        let pairs = listed_pairs(root, set, folders, &root.join(list))?;
        return Ok(Pairs { pairs, images_alone: Vec::new(), labels_alone: Vec::new() });
    }
    let images = files_by_name(&root.join(&folders.images), &set.image_suffix)?;
    let labels = files_by_name(&root.join(&folders.labels), &set.label_suffix)?;
    let mut labels: HashMap<_, _> = labels.into_iter().collect();
    let (mut pairs, mut images_alone) = (Vec::new(), Vec::new());
    for (name, image) in images {
        match labels.remove(&name) {
            Some(label) => pairs.push((image, label)),
            None => images_alone.push(image),
        }
    }
    let mut labels_alone: Vec<_> = labels.into_values().collect();
    labels_alone.sort();
    Ok(Pairs { pairs, images_alone, labels_alone })
}

/// Every picture of the part with its label file; an error if one has no partner.
fn all_pairs(
    root: &Path,
    set: &SegmentationSet,
    folders: &SplitFolders,
) -> Result<Vec<(PathBuf, PathBuf)>> {
    let Pairs { pairs, images_alone, labels_alone } = pair_files(root, set, folders)?;
    if let Some(first) = images_alone.first() {
        let stem = first.with_extension("");
        let stem = stem.file_name().unwrap_or_default().to_string_lossy();
        let reason = format!(
            "{} of {} pictures have no label file, such as `{}`; expected `{stem}{}` below `{}`",
            images_alone.len(),
            images_alone.len() + pairs.len(),
            first.display(),
            set.label_suffix,
            root.join(&folders.labels).display()
        );
        return Err(Error::dataset(root.join(&folders.images), reason));
    }
    if let Some(first) = labels_alone.first() {
        let reason = format!(
            "{} label files have no picture, such as `{}`; add the pictures to `{}`, or name those \
             that are meant in a `list` of the data set's definition",
            labels_alone.len(),
            first.display(),
            root.join(&folders.images).display()
        );
        return Err(Error::dataset(root.join(&folders.labels), reason));
    }
    Ok(pairs)
}

/// The pictures that a list names.
fn listed_pairs(
    root: &Path,
    set: &SegmentationSet,
    folders: &SplitFolders,
    list: &Path,
) -> Result<Vec<(PathBuf, PathBuf)>> {
    let text =
        fs::read_to_string(list).map_err(|source| Error::io("read the list", list, source))?;
    let suffix = if set.image_suffix.is_empty() { ".jpg" } else { &set.image_suffix };
    let pair = |(line, name): (usize, &str)| {
        let image = root.join(&folders.images).join(format!("{name}{suffix}"));
        let label = root.join(&folders.labels).join(format!("{name}{}", set.label_suffix));
        if let Some(missing) = [&image, &label].into_iter().find(|path| !path.exists()) {
            let reason = format!("line {}: there is no file `{}`", line + 1, missing.display());
            return Err(Error::dataset(list, reason));
        }
        Ok((image, label))
    };
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, name)| !name.is_empty());
    lines.map(pair).collect()
}

/// The pictures below `folder` whose names end in `suffix`, each with its path within, without that
/// suffix (or, if it is empty, without extension); sorted.
fn files_by_name(folder: &Path, suffix: &str) -> Result<Vec<(String, PathBuf)>> {
    let within = |path: &Path| {
        let name = path.strip_prefix(folder).unwrap_or(path);
        match suffix {
            "" => Some(name.with_extension("").to_string_lossy().into_owned()),
            _ => name.to_string_lossy().strip_suffix(suffix).map(ToOwned::to_owned),
        }
    };
    if !folder.is_dir() {
        let reason = "there is no such folder; the data set's definition names it";
        return Err(Error::dataset(folder, reason));
    }
    let paths = pictures_below(folder)?;
    Ok(paths.into_iter().filter_map(|path| Some((within(&path)?, path))).collect())
}
