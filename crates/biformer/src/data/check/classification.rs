//! Checks of pictures in folders of classes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use super::super::image_folder::{folder_names, pictures_below, visible_entries};
use super::super::{ImageFolder, Picture, Split, is_image_file, split_folder};
use super::{CheckedPart, Checking, Consequence, DataReport, Observe};

/// Looks at the parts `train` and `val` of the data set in `root`; `None` if the observer broke off.
pub fn check_classification<'a>(root: &Path, observe: &'a mut Observe<'a>) -> Option<DataReport> {
    let mut checking = Checking::new(observe);
    let mut trained: Option<Vec<String>> = None;
    for split in [Split::Train, Split::Val] {
        let part = split.to_string();
        let folder = match split_folder(root, split) {
            Ok(folder) => folder,
            Err(error) => {
                checking.find(&part, "no such part", Consequence::Refused, [error]);
                continue;
            }
        };
        if folder.is_dir() {
            check_folder(&mut checking, &part, &folder);
        }
        let opened = match &trained {
            None => ImageFolder::open(&folder),
            Some(classes) => ImageFolder::open_with_classes(&folder, classes),
        };
        match opened {
            Ok(opened) => {
                check_part(&mut checking, &part, &opened).continue_value()?;
                trained = trained.or(Some(opened.classes));
            }
            Err(error) => checking.find(&part, "not usable", Consequence::Refused, [error]),
        }
    }
    Some(checking.end())
}

/// What listing the folder reads over, and classes without a picture, of which it names the first.
fn check_folder(checking: &mut Checking<'_>, part: &str, folder: &Path) {
    let (mut empty, mut others) = (Vec::new(), Vec::new());
    for class in folder_names(folder).unwrap_or_default() {
        let folder = folder.join(&class);
        if pictures_below(&folder).is_ok_and(|pictures| pictures.is_empty()) {
            empty.push(class);
        }
        let entries = visible_entries(&folder).unwrap_or_default();
        let is_other = |path: &&std::path::PathBuf| path.is_file() && !is_image_file(path);
        others.extend(entries.iter().filter(is_other).map(|path| path.display().to_string()));
    }
    checking.find(part, "class folders without a picture", Consequence::Refused, empty);
    checking.find(part, "files that are no pictures by their name", Consequence::LeftOut, others);
}

fn check_part(checking: &mut Checking<'_>, part: &str, folder: &ImageFolder) -> ControlFlow<()> {
    let ImageFolder { classes, samples } = folder;
    let (images, names) = (samples.len(), classes.len());
    let checked = CheckedPart { name: part.to_owned(), images, classes: names, annotations: None };
    checking.report.parts.push(checked);
    let pictures: Vec<Picture> = samples.iter().map(|(picture, _)| picture.clone()).collect();
    let sizes = checking.look_at(part, &pictures)?;
    let damaged = sizes.iter().filter_map(|size| size.as_ref().err());
    checking.find(part, "pictures that cannot be read", Consequence::LeftOut, damaged);

    let mut readable: BTreeMap<usize, usize> = (0..names).map(|class| (class, 0)).collect();
    for ((_, class), _) in samples.iter().zip(&sizes).filter(|(_, size)| size.is_ok()) {
        *readable.entry(*class).or_default() += 1;
    }
    let without = readable.iter().filter(|(_, count)| **count == 0);
    let without = without.map(|(&class, _)| format!("`{}`", classes[class]));
    checking.find(part, "classes without a picture that can be read", Consequence::Note, without);
    ControlFlow::Continue(())
}
