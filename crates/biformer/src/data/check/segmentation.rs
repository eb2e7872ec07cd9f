//! Checks of pictures with label maps.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::Picture;
use super::super::segmentation::{
    IGNORE_INDEX, LabelTable, Pairs, SegmentationSet, SplitFolders, pair_files, read_label_values,
};
use super::{CheckedPart, Checking, Consequence, DataReport, Observe};

/// Looks at all parts of the data set in `root`, which is described as
/// [`SegmentationSet::find`] says; `None` if the observer broke off.
pub fn check_segmentation<'a>(
    root: &Path,
    dataset: Option<&str>,
    observe: &'a mut Observe<'a>,
) -> Option<DataReport> {
    let mut checking = Checking::new(observe);
    match SegmentationSet::find(root, dataset) {
        Ok(set) => {
            for needed in
                ["train", "val"].into_iter().filter(|part| !set.splits.contains_key(*part))
            {
                let reason = "the data set's definition does not name it";
                checking.find(needed, "no such part", Consequence::Refused, [reason]);
            }
            for (part, folders) in &set.splits {
                check_part(&mut checking, root, &set, part, folders).continue_value()?;
            }
        }
        Err(error) => checking.find("", "no definition", Consequence::Refused, [error]),
    }
    Some(checking.end())
}

fn check_part(
    checking: &mut Checking<'_>,
    root: &Path,
    set: &SegmentationSet,
    part: &str,
    folders: &SplitFolders,
) -> ControlFlow<()> {
    let Pairs { pairs, images_alone, labels_alone } = match pair_files(root, set, folders) {
        Ok(pairs) => pairs,
        Err(error) => {
            checking.find(part, "not usable", Consequence::Refused, [error]);
            return ControlFlow::Continue(());
        }
    };
    let (name, classes) = (part.to_owned(), set.classes.len());
    let images = pairs.len() + images_alone.len();
    checking.report.parts.push(CheckedPart { name, images, classes, annotations: None });
    let shown = |paths: Vec<PathBuf>| paths.into_iter().map(|path| format!("`{}`", path.display()));
    checking.find(part, "pictures without labels", Consequence::Refused, shown(images_alone));
    checking.find(part, "labels without a picture", Consequence::Refused, shown(labels_alone));
    if pairs.is_empty() {
        let folder = root.join(&folders.images).display().to_string();
        checking.find(part, "no picture with labels", Consequence::Refused, [folder]);
        return ControlFlow::Continue(());
    }

    let pictures: Vec<Picture> = pairs.iter().map(|(image, _)| image.clone().into()).collect();
    let sizes = checking.look_at(part, &pictures)?;
    // Scores on a part of the pictures would be those of another set.
    let bad = if part == "train" { Consequence::LeftOut } else { Consequence::Refused };
    let damaged = sizes.iter().filter_map(|size| size.as_ref().err());
    checking.find(part, "pictures that cannot be read", bad, damaged);

    let table = set.label_table();
    let maps: Vec<_> = pairs.par_iter().map(|(_, labels)| look_at_labels(labels, &table)).collect();
    let damaged = maps.iter().filter_map(|map| map.as_ref().err());
    checking.find(part, "labels that cannot be read", bad, damaged);
    let looked: Vec<(&PathBuf, &Labels)> = pairs
        .iter()
        .zip(&maps)
        .filter_map(|((_, path), map)| Some((path, map.as_ref().ok()?)))
        .collect();
    let unknown = looked.iter().filter(|(_, map)| !map.unknown.is_empty());
    let unknown = unknown.map(|(path, map)| format!("`{}`: {:?}", path.display(), map.unknown));
    checking.find(part, "label values that are no class", bad, unknown);
    let nothing = looked.iter().filter(|(_, map)| map.pixels.is_empty() && map.unknown.is_empty());
    let nothing = nothing.map(|(path, _)| format!("`{}`", path.display()));
    checking.find(part, "pictures without a pixel that counts", Consequence::Note, nothing);
    let differ = pairs.iter().zip(&maps).zip(&sizes).filter_map(|(((image, _), map), size)| {
        let ((width, height), map) = (*size.as_ref().ok()?, map.as_ref().ok()?);
        let reason = || {
            let (columns, rows) = map.size;
            format!("`{}`: {width}x{height}, its labels {columns}x{rows}", image.display())
        };
        (map.size != (width, height)).then(reason)
    });
    checking.find(part, "labels of another size than their picture", bad, differ);

    let present = |class: usize| looked.iter().any(|(_, map)| map.pixels.contains_key(&class));
    let absent = (0..classes).filter(|&class| !present(class));
    let absent = absent.map(|class| format!("`{}`", set.classes[class]));
    checking.find(part, "classes that do not occur", Consequence::Note, absent);
    ControlFlow::Continue(())
}

/// What is in a label file.
struct Labels {
    size: (u32, u32),
    /// Of each class that occurs.
    pixels: BTreeMap<usize, usize>,
    /// Values that mean nothing.
    unknown: Vec<u8>,
}

fn look_at_labels(path: &Path, table: &LabelTable) -> crate::Result<Labels> {
    let map = read_label_values(path)?;
    let mut counts = [0usize; 256];
    map.as_raw().iter().for_each(|&value| counts[usize::from(value)] += 1);
    let mut labels =
        Labels { size: map.dimensions(), pixels: BTreeMap::new(), unknown: Vec::new() };
    for (value, count) in (0..=u8::MAX).zip(counts).filter(|(_, count)| *count > 0) {
        match table.meaning[usize::from(value)] {
            None => labels.unknown.push(value),
            Some(IGNORE_INDEX) => {}
            Some(class) => *labels.pixels.entry(class.into()).or_default() += count,
        }
    }
    Ok(labels)
}
