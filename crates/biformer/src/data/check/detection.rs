//! Checks of pictures with boxes and masks.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use super::super::detection::{
    AnnotationEntry, Category, CocoFile, DetectionSet, DetectionSplit, ImageEntry, meets,
};
use super::super::image_folder::pictures_below;
use super::super::{MAX_PIXELS, Picture};
use super::annotations::SegmentationShape;
use super::{CheckedPart, Checking, Consequence, DataReport, Observe};

type File = CocoFile<SegmentationShape>;
type Annotation = AnnotationEntry<SegmentationShape>;

/// Looks at all parts of the data set in `root`, which is described as [`DetectionSet::find`] says;
/// `None` if the observer broke off.
pub fn check_detection<'a>(
    root: &Path,
    dataset: Option<&Path>,
    observe: &'a mut Observe<'a>,
) -> Option<DataReport> {
    let mut checking = Checking::new(observe);
    let set = match DetectionSet::find(root, dataset) {
        Ok(set) => set,
        Err(error) => {
            checking.find("", "no definition", Consequence::Refused, [error]);
            return Some(checking.end());
        }
    };
    let mut classes = HashMap::new();
    for needed in ["train", "val"] {
        if !set.splits.contains_key(needed) {
            let known = set.splits.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let reason = format!("only {}", known.join(", "));
            checking.find(needed, "no such part", Consequence::Refused, [reason]);
        }
    }
    for (part, split) in &set.splits {
        let annotations = root.join(&split.annotations);
        let mut file = match File::read(&annotations) {
            Ok(file) => file,
            Err(error) => {
                checking.find(part, "annotations cannot be read", Consequence::Refused, [error]);
                continue;
            }
        };
        checking.report.parts.push(CheckedPart {
            name: part.clone(),
            images: file.images.len(),
            classes: file.categories.len(),
            annotations: Some(file.annotations.len()),
        });
        file.categories.sort_by_key(|category| category.id);
        check_categories(&mut checking, part, &file);
        check_images(&mut checking, part, &file);
        check_annotations(&mut checking, part, &file);
        check_pictures(&mut checking, root, part, split, &file).continue_value()?;
        let used: HashSet<u64> = file.annotations.iter().map(|entry| entry.category_id).collect();
        classes.insert(part.as_str(), (file.categories, used));
    }
    if let (Some(train), Some(val)) = (classes.get("train"), classes.get("val")) {
        compare_classes(&mut checking, train, val);
    }
    Some(checking.end())
}

fn check_categories(checking: &mut Checking<'_>, part: &str, file: &File) {
    let ids = file.categories.iter().map(|category| category.id);
    let twice = repeated(ids.clone());
    checking.find(part, "category ids of two categories", Consequence::Refused, twice);
    if file.categories.is_empty() {
        checking.find(part, "no category", Consequence::Refused, ["`categories` is empty"]);
    }
    let twice = repeated(file.categories.iter().map(|category| &category.name));
    checking.find(part, "names of two categories", Consequence::Note, twice);
    let gaps = file.categories.windows(2).filter(|pair| pair[1].id > pair[0].id + 1);
    let gaps = gaps.map(|pair| format!("{} follows {}", pair[1].id, pair[0].id));
    let what = "gaps between category ids (labels count them in order)";
    checking.find(part, what, Consequence::Note, gaps);
    let used: HashSet<u64> = file.annotations.iter().map(|entry| entry.category_id).collect();
    let unused = file.categories.iter().filter(|category| !used.contains(&category.id));
    checking.find(part, "categories without annotation", Consequence::Note, unused.map(name));
}

fn check_images(checking: &mut Checking<'_>, part: &str, file: &File) {
    if file.images.is_empty() {
        checking.find(part, "no picture", Consequence::Refused, ["`images` is empty"]);
    }
    let twice = repeated(file.images.iter().map(|image| image.id));
    checking.find(part, "image ids of two pictures", Consequence::Refused, twice);
    let twice = repeated(file.images.iter().map(|image| &image.file_name));
    checking.find(part, "pictures that are listed twice", Consequence::Note, twice);
    let is_wrong = |image: &&ImageEntry| {
        !(1..=MAX_PIXELS).contains(&(u64::from(image.width) * u64::from(image.height)))
    };
    let wrong = file.images.iter().filter(is_wrong);
    let wrong =
        wrong.map(|image| format!("`{}`: {}x{}", image.file_name, image.width, image.height));
    checking.find(part, "sizes without or with too many pixels", Consequence::Refused, wrong);
    let marked: HashSet<u64> = file.annotations.iter().map(|entry| entry.image_id).collect();
    let bare = file.images.iter().filter(|image| !marked.contains(&image.id));
    let bare = bare.map(|image| format!("`{}`", image.file_name));
    checking.find(part, "pictures without annotation", left_out(part), bare);
}

/// What is left out in training is counted where a model is judged.
fn left_out(part: &str) -> Consequence {
    if part == "train" { Consequence::LeftOut } else { Consequence::Note }
}

fn check_annotations(checking: &mut Checking<'_>, part: &str, file: &File) {
    use Consequence::{LeftOut, Note, Refused};
    let images: HashMap<u64, &ImageEntry> =
        file.images.iter().map(|image| (image.id, image)).collect();
    let categories: HashSet<u64> = file.categories.iter().map(|category| category.id).collect();
    let mut find = |what: &str, consequence, is_wrong: &dyn Fn(&Annotation) -> Option<String>| {
        let named = |entry: &Annotation| {
            let wrong = is_wrong(entry)?;
            let image =
                images.get(&entry.image_id).map(|image| format!(" in `{}`", image.file_name));
            Some(format!("annotation {}{}: {wrong}", entry.id, image.unwrap_or_default()))
        };
        checking.find(part, what, consequence, file.annotations.iter().filter_map(named));
    };
    find("annotations of categories that are not listed", Refused, &|entry| {
        let is_unknown = !categories.contains(&entry.category_id);
        is_unknown.then(|| format!("category {}", entry.category_id))
    });
    find("boxes that are no four numbers", Refused, &|entry| {
        (entry.bbox.len() != 4).then(|| format!("{:?}", entry.bbox))
    });
    find("annotations without picture", LeftOut, &|entry| {
        (!images.contains_key(&entry.image_id)).then(|| format!("image {}", entry.image_id))
    });
    find("boxes without area, or with sides below a pixel", left_out(part), &|entry| {
        let bbox = bbox(entry)?;
        let area = entry.area.unwrap_or(bbox[2] * bbox[3]);
        is_small(bbox, area).then(|| format!("{bbox:?}, area {area}"))
    });
    find("boxes outside of their picture", left_out(part), &|entry| {
        let (bbox, image) = (bbox(entry)?, images.get(&entry.image_id)?);
        let area = entry.area.unwrap_or(bbox[2] * bbox[3]);
        let is_outside = !is_small(bbox, area) && !meets(bbox, area, [image.height, image.width]);
        is_outside.then(|| format!("{bbox:?} in {}x{}", image.width, image.height))
    });
    find("boxes that reach over the edge, where they are cut off", Note, &|entry| {
        let (bbox, image) = (bbox(entry)?, images.get(&entry.image_id)?);
        let area = entry.area.unwrap_or(bbox[2] * bbox[3]);
        // Files have two decimals or so.
        let over = |start: f64, length: f64, side: u32| {
            start < -0.01 || start + length > f64::from(side) + 0.01
        };
        let is_over = over(bbox[0], bbox[2], image.width) || over(bbox[1], bbox[3], image.height);
        let is_over = is_over && meets(bbox, area, [image.height, image.width]);
        is_over.then(|| format!("{bbox:?} in {}x{}", image.width, image.height))
    });
    find("masks that are no masks", Refused, &|entry| match &entry.segmentation {
        Some(SegmentationShape::Wrong(reason)) => Some(reason.clone()),
        _ => None,
    });
    find("masks of another size than their picture", Refused, &|entry| {
        let image = images.get(&entry.image_id)?;
        match entry.segmentation {
            Some(SegmentationShape::Mask(size)) if size != [image.height, image.width] => {
                Some(format!("{size:?}, the picture [{}, {}]", image.height, image.width))
            }
            _ => None,
        }
    });
    let what = "polygons with less than three corners, or half of one";
    find(what, left_out(part), &|entry| match entry.segmentation {
        Some(SegmentationShape::Polygons { useless, of }) if useless > 0 || of == 0 => {
            Some(format!("{useless} of {of} polygons"))
        }
        _ => None,
    });
    let has_mask = |entry: &Annotation| entry.segmentation.is_some();
    if file.annotations.iter().any(has_mask) {
        find("annotations without mask, where others have one", left_out(part), &|entry| {
            (!has_mask(entry)).then(|| "no `segmentation`".to_owned())
        });
    }
    find("crowds, in which nothing is learnt", Note, &|entry| {
        (entry.iscrowd != 0).then(|| format!("category {}", entry.category_id))
    });
    find("annotation ids of 0 (pycocotools never finds them)", Note, &|entry| {
        (entry.id == 0).then(|| format!("category {}", entry.category_id))
    });
    let twice = repeated(file.annotations.iter().map(|entry| entry.id));
    checking.find(part, "annotation ids of two annotations", Note, twice);
}

fn check_pictures(
    checking: &mut Checking<'_>,
    root: &Path,
    part: &str,
    split: &DetectionSplit,
    file: &File,
) -> ControlFlow<()> {
    let folder = root.join(&split.images);
    let paths: Vec<_> = file.images.iter().map(|image| folder.join(&image.file_name)).collect();
    let missing = paths.iter().filter(|path| !path.exists());
    let missing = missing.map(|path| format!("`{}`", path.display()));
    checking.find(part, "pictures that are not there", Consequence::Refused, missing);
    let there: Vec<_> = file.images.iter().zip(&paths).filter(|(_, path)| path.exists()).collect();
    let pictures: Vec<Picture> = there.iter().map(|(_, path)| (*path).clone().into()).collect();
    let sizes = checking.look_at(part, &pictures)?;
    // Scores on a part of the pictures would be those of another set.
    let bad = if part == "train" { Consequence::LeftOut } else { Consequence::Refused };
    let damaged = sizes.iter().filter_map(|size| size.as_ref().err());
    checking.find(part, "pictures that cannot be read", bad, damaged);
    let differ = there.iter().zip(&sizes).filter_map(|((image, path), size)| {
        let found = *size.as_ref().ok()?;
        let listed = (image.width, image.height);
        let reason = || {
            let path = path.display();
            format!("`{path}`: {}x{}, listed as {}x{}", found.0, found.1, listed.0, listed.1)
        };
        (found != listed).then(reason)
    });
    checking.find(part, "pictures of another size than is listed", bad, differ);
    let listed: HashSet<_> = paths.iter().collect();
    let found = pictures_below(&folder).unwrap_or_default();
    let others = found.iter().filter(|path| !listed.contains(path));
    let others = others.map(|path| format!("`{}`", path.display()));
    checking.find(part, "pictures in the folder that are not listed", Consequence::LeftOut, others);
    ControlFlow::Continue(())
}

type Classes = (Vec<Category>, HashSet<u64>);

fn compare_classes(checking: &mut Checking<'_>, train: &Classes, val: &Classes) {
    if train.0 != val.0 {
        let only = |these: &Classes, others: &Classes| {
            let others: HashSet<_> = others.0.iter().collect();
            these.0.iter().filter(|class| !others.contains(class)).map(name).collect::<Vec<_>>()
        };
        let [in_train, in_val] = [only(train, val), only(val, train)];
        let shown = in_train.into_iter().map(|class| format!("only `train`: {class}"));
        let shown = shown.chain(in_val.into_iter().map(|class| format!("only `val`: {class}")));
        let what = "`train` and `val` list other categories";
        checking.find("", what, Consequence::Refused, shown);
        return;
    }
    let unlearnt = val.0.iter().filter(|c| val.1.contains(&c.id) && !train.1.contains(&c.id));
    checking.find(
        "",
        "categories in `val` that `train` lacks",
        Consequence::Note,
        unlearnt.map(name),
    );
}

fn name(category: &Category) -> String {
    format!("{} `{}`", category.id, category.name)
}

fn bbox(entry: &Annotation) -> Option<[f64; 4]> {
    entry.bbox.as_slice().try_into().ok()
}

fn is_small([_, _, width, height]: [f64; 4], area: f64) -> bool {
    area <= 0.0 || width < 1.0 || height < 1.0
}

/// Each value that comes a second time.
fn repeated<T: std::hash::Hash + Eq + Copy>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values.filter(|value| !seen.insert(*value)).collect()
}
