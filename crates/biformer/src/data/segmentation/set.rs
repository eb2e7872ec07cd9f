//! What a data set consists of: classes, colours, folders, and which numbers in its files mean what.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::seg_map::{IGNORE_INDEX, LabelTable};
use crate::{Error, Result};

/// Sets that need no file beside their pictures: the files that define them.
const BUILT_IN: [(&str, &str); 2] =
    [("ade20k", include_str!("ade20k.toml")), ("camvid", include_str!("camvid.toml"))];

/// The file in the folder of a data set that says what it consists of.
const FILE: &str = "dataset.toml";

/// A data set of pictures with label maps, as a TOML file says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentationSet {
    /// What it is called.
    pub name: String,
    /// Names of the classes; the position is the class index.
    pub classes: Vec<String>,
    /// A colour for each class; without it, those of Pascal VOC.
    #[serde(default)]
    pub palette: Vec<[u8; 3]>,
    /// Numbers in the files that stand for no class: their pixels do not count.
    #[serde(default = "no_class")]
    pub ignore: Vec<u8>,
    /// Whether 0 in the files stands for no class either, and the classes begin at 1.
    #[serde(default)]
    pub reduce_zero_label: bool,
    /// The number in the files of each class, if they are not in order from 0.
    #[serde(default)]
    pub label_ids: Vec<u8>,
    /// How names of pictures end; without it, any picture by its extension, or `.jpg` where a list names
    /// them.
    #[serde(default)]
    pub image_suffix: String,
    /// How names of label files end, in the place of the end of the picture's.
    #[serde(default = "png")]
    pub label_suffix: String,
    /// `train`, `val` and others.
    pub splits: BTreeMap<String, SplitFolders>,
}

/// Where a part of a data set lies, below its folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitFolders {
    /// Folder of the pictures.
    pub images: String,
    /// Folder of the label files, under the same names but for the suffix.
    pub labels: String,
    /// A text file with the names of its pictures, without suffix, one a line; without it, all there are.
    pub list: Option<String>,
}

impl SegmentationSet {
    /// The definition of the data set in `root`: `named`, which is that of a built-in set (`ade20k`,
    /// `camvid`) or the path of a file, or else the `dataset.toml` in `root`.
    ///
    /// # Errors
    /// [`Error::Dataset`] if there is none, or with line and key of what is wrong.
    pub fn find(root: &Path, named: Option<&str>) -> Result<Self> {
        match named {
            Some(name) => match Self::built_in(name) {
                Some(set) => Ok(set),
                None if Path::new(name).exists() => Self::read(Path::new(name)),
                None => {
                    let reason = format!("is neither a file nor one of {}", built_in_names());
                    Err(Error::dataset(name, reason))
                }
            },
            None if root.join(FILE).exists() => Self::read(&root.join(FILE)),
            None if !root.exists() => Err(Error::dataset(root, "the folder does not exist")),
            None => {
                let reason = format!(
                    "has no `{FILE}` that names its classes and folders; write one, or name a set: {}",
                    built_in_names()
                );
                Err(Error::dataset(root, reason))
            }
        }
    }

    /// A set that needs no file.
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, text) = BUILT_IN.into_iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(text).expect("built-in definitions are checked by a test"))
    }

    /// Reads and checks a definition.
    ///
    /// # Errors
    /// [`Error::Dataset`] with line and key of what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        Self::parse(&text).map_err(|reason| Error::dataset(path, reason))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut set: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        set.check()?;
        if set.palette.is_empty() {
            set.palette = voc_palette(set.classes.len());
        }
        Ok(set)
    }

    fn check(&self) -> Result<(), String> {
        let classes = self.classes.len();
        // One number is left for pixels that do not count.
        if !(2..=usize::from(IGNORE_INDEX)).contains(&classes) {
            return Err(format!("`classes`: expected 2 to {IGNORE_INDEX}, found {classes}"));
        }
        for (key, found) in [("palette", self.palette.len()), ("label_ids", self.label_ids.len())] {
            if found != 0 && found != classes {
                return Err(format!(
                    "`{key}`: expected one for each of {classes} classes, found {found}"
                ));
            }
        }
        if self.reduce_zero_label && !self.label_ids.is_empty() {
            return Err("`reduce_zero_label` and `label_ids` exclude each other".to_owned());
        }
        let mut ids = self.label_ids.clone();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("`label_ids`: {} stands for two classes", twice[0]));
        }
        match (0..classes).find(|&class| self.ignore.contains(&self.label_id(class))) {
            Some(class) => Err(format!(
                "`ignore`: {} is the number of the class `{}`",
                self.label_id(class),
                self.classes[class]
            )),
            None => Ok(()),
        }
    }

    /// The number of a class in the files.
    fn label_id(&self, class: usize) -> u8 {
        match self.label_ids.get(class) {
            Some(&id) => id,
            None => class as u8 + u8::from(self.reduce_zero_label),
        }
    }

    /// What each number in the files means.
    pub(in crate::data) fn label_table(&self) -> LabelTable {
        let mut meaning = [None; 256];
        for (class, name) in (0..self.classes.len()).zip(0..) {
            meaning[usize::from(self.label_id(class))] = Some(name);
        }
        let zero = self.reduce_zero_label.then_some(0);
        for nothing in self.ignore.iter().copied().chain(zero) {
            meaning[usize::from(nothing)] = Some(IGNORE_INDEX);
        }
        LabelTable { meaning, classes: self.classes.len() }
    }
}

/// The colours of Pascal VOC: bit by bit, so that neighbours differ.
pub fn voc_palette(classes: usize) -> Vec<[u8; 3]> {
    let color = |class: usize| {
        std::array::from_fn(|channel| {
            (0..3).fold(0, |level, bit| {
                level | ((class >> (3 * bit + channel)) as u8 & 1) << (7 - bit)
            })
        })
    };
    (0..classes).map(color).collect()
}

fn built_in_names() -> String {
    BUILT_IN.map(|(name, _)| format!("`{name}`")).join(", ")
}

fn no_class() -> Vec<u8> {
    vec![IGNORE_INDEX]
}

fn png() -> String {
    ".png".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_sets_are_whole() {
        for (name, text) in BUILT_IN {
            let set = SegmentationSet::parse(text).unwrap();
            assert_eq!(set.name, name);
            assert_eq!(set.palette.len(), set.classes.len());
            assert!(set.splits.contains_key("train") && set.splits.contains_key("val"));
        }
        let ade20k = SegmentationSet::built_in("ade20k").unwrap().label_table();
        assert_eq!(ade20k.meaning[0], Some(255));
        assert_eq!((ade20k.meaning[1], ade20k.meaning[150]), (Some(0), Some(149)));
        assert_eq!((ade20k.meaning[151], ade20k.meaning[255]), (None, Some(255)));
        let camvid = SegmentationSet::built_in("camvid").unwrap().label_table();
        assert_eq!((camvid.meaning[10], camvid.meaning[11]), (Some(10), Some(255)));
        assert_eq!(camvid.meaning[12], None);
    }

    /// The first colours of the development kit of Pascal VOC.
    #[test]
    fn voc_colors() {
        let expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]];
        assert_eq!(voc_palette(5), expected);
        assert_eq!(voc_palette(21)[20], [0, 64, 128]);
    }
}
