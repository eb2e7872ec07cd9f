//! Where a data set has its parts: folders of pictures and files of annotations.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// The file in the folder of a data set that says where its parts are.
const FILE: &str = "dataset.toml";

/// A data set of pictures with boxes or masks, as a TOML file or the layout of COCO says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionSet {
    /// What it is called.
    pub name: String,
    /// `train`, `val` and others.
    pub splits: BTreeMap<String, DetectionSplit>,
}

/// Where a part of a data set lies, below its folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionSplit {
    /// Folder of the pictures.
    pub images: String,
    /// File of COCO instances.
    pub annotations: String,
}

impl DetectionSet {
    /// The parts of the data set in `root`: those of the file `named`, or of the `dataset.toml` in `root`,
    /// or, as in COCO, each `annotations/instances_NAME.json` with the folder `NAME` beside
    /// `annotations`. There, `train2017` and `val2017` are called `train` and `val`.
    ///
    /// # Errors
    /// [`Error::Dataset`] if there is none, or with line and key of what is wrong.
    pub fn find(root: &Path, named: Option<&Path>) -> Result<Self> {
        let file = root.join(FILE);
        match named {
            Some(path) => Self::read(path),
            None if file.exists() => Self::read(&file),
            None => Self::in_layout_of_coco(root),
        }
    }

    /// Reads a definition.
    ///
    /// # Errors
    /// [`Error::Dataset`] with line and key of what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        toml::from_str(&text).map_err(|error| Error::dataset(path, error.to_string().trim_end()))
    }

    fn in_layout_of_coco(root: &Path) -> Result<Self> {
        let folder = root.join("annotations");
        let Ok(entries) = fs::read_dir(&folder) else {
            let reason = format!(
                "expected `annotations/instances_train2017.json` beside `train2017`, and the same for \
                 `val2017`, or a `{FILE}` that names folders and files"
            );
            return Err(Error::dataset(root, reason));
        };
        let mut splits = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(|source| Error::io("list the folder", &folder, source))?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let name = file.strip_prefix("instances_").and_then(|name| name.strip_suffix(".json"));
            if let Some(images) = name.filter(|images| root.join(images).is_dir()) {
                let name = images.strip_suffix("2017").unwrap_or(images).to_owned();
                let annotations = format!("annotations/{file}");
                splits.insert(name, DetectionSplit { images: images.to_owned(), annotations });
            }
        }
        if splits.is_empty() {
            let reason = format!(
                "holds no `instances_NAME.json` that has its pictures in `{}`; write a `{FILE}` beside it \
                 that names folders and files",
                root.join("NAME").display()
            );
            return Err(Error::dataset(folder, reason));
        }
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, splits })
    }

    /// The part `split`.
    ///
    /// # Errors
    /// [`Error::Dataset`] with the parts that there are.
    pub(super) fn split(&self, root: &Path, split: &str) -> Result<&DetectionSplit> {
        self.splits.get(split).ok_or_else(|| {
            let known = self.splits.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            Error::dataset(root, format!("has no part `{split}`, only {}", known.join(", ")))
        })
    }
}
