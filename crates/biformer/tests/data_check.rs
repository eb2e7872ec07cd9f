//! What is wrong with data sets: each kind of finding on a small broken set.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use biformer::data::RgbImage;
use biformer::data::check::{
    Consequence, DataReport, check_classification, check_detection, check_segmentation,
};
use biformer::data::shapes::{
    ObjectsConfig, ShapesConfig, write_detection_folder, write_image_folder,
    write_segmentation_folder,
};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use Consequence::{LeftOut, Note, Refused};

fn report(
    check: impl FnOnce(&mut dyn FnMut(&str, usize, usize) -> ControlFlow<()>) -> Option<DataReport>,
) -> DataReport {
    check(&mut |_, _, _| ControlFlow::Continue(())).expect("nobody broke off")
}

/// Exactly these findings, in any order: part, beginning of what it is, consequence, count, and a word of
/// the first example.
fn assert_finds(report: &DataReport, expected: &[(&str, &str, Consequence, usize, &str)]) {
    for &(part, what, consequence, count, word) in expected {
        let found = report.findings.iter().find(|f| f.part == part && f.what.starts_with(what));
        let found = found.unwrap_or_else(|| panic!("no `{what}` in {:#?}", report.findings));
        assert_eq!((found.consequence, found.count), (consequence, count), "{found:?}");
        assert!(found.examples[0].contains(word), "no `{word}` in {found:?}");
    }
    assert_eq!(report.findings.len(), expected.len(), "{:#?}", report.findings);
    let is_refused = expected.iter().any(|&(_, _, consequence, ..)| consequence == Refused);
    assert_eq!(report.is_refused(), is_refused);
    assert!(report.findings.is_sorted_by_key(|finding| finding.consequence));
}

fn shapes() -> ShapesConfig {
    ShapesConfig { img_size: 32, train_per_class: 2, val_per_class: 1, seed: 0 }
}

#[test]
fn classes_in_folders() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write_image_folder(root, &shapes()).unwrap();
    let check = || report(|observe| check_classification(root, observe));
    let sound = check();
    assert_finds(&sound, &[]);
    let parts = sound.parts.iter().map(|part| (part.name.as_str(), part.images, part.classes));
    assert_eq!(parts.collect::<Vec<_>>(), [("train", 16, 8), ("val", 8, 8)]);

    fs::write(root.join("train/star/0000.png"), "no picture").unwrap();
    fs::write(root.join("train/disc/notes.txt"), "words").unwrap();
    fs::copy(root.join("train/ring/0001.png"), root.join("val/ring/0009.png")).unwrap();
    fs::write(root.join("val/star/0000.png"), "").unwrap();
    assert_finds(
        &check(),
        &[
            ("train", "pictures that cannot be read", LeftOut, 1, "star/0000.png"),
            ("train", "files that are no pictures", LeftOut, 1, "notes.txt"),
            ("val", "pictures that are in another part too", Note, 1, "train/ring/0001.png"),
            ("val", "pictures that cannot be read", LeftOut, 1, "star/0000.png"),
            ("val", "classes without a picture that can be read", Note, 1, "`star`"),
        ],
    );

    fs::remove_dir_all(root.join("val")).unwrap();
    for class in ["star", "comet"] {
        fs::create_dir_all(root.join("val").join(class)).unwrap();
        fs::copy(root.join("train/ring/0000.png"), root.join(format!("val/{class}/1.png")))
            .unwrap();
    }
    fs::create_dir(root.join("train/empty")).unwrap();
    assert_finds(
        &check(),
        &[
            ("train", "class folders without a picture", Refused, 1, "empty"),
            ("train", "not usable", Refused, 1, "`empty` holds no JPEG"),
            ("train", "files that are no pictures", LeftOut, 1, "notes.txt"),
        ],
    );
    fs::remove_dir(root.join("train/empty")).unwrap();
    let found = check();
    let unknown = found.findings.iter().find(|finding| finding.part == "val").unwrap();
    assert!(unknown.examples[0].contains("`comet`"), "{unknown:?}");

    let nothing = report(|observe| check_classification(&root.join("nowhere"), observe));
    assert!(nothing.findings.len() == 2 && nothing.is_refused(), "{nothing:?}");
}

#[test]
fn classes_of_pixels() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write_segmentation_folder(root, &shapes()).unwrap();
    let check = || report(|observe| check_segmentation(root, None, observe));
    assert_finds(&check(), &[]);

    let labels = |name: &str, side: u32, value: u8| {
        let map = image::GrayImage::from_pixel(side, side, image::Luma([value]));
        map.save(root.join("labels/train").join(name)).unwrap();
    };
    labels("star_0000.png", 32, 99);
    labels("star_0001.png", 32, 255);
    labels("ring_0000.png", 16, 0);
    fs::write(root.join("labels/train/disc_0000.png"), "no picture").unwrap();
    fs::write(root.join("images/val/disc_0000.png"), "no picture").unwrap();
    fs::remove_file(root.join("labels/train/heart_0000.png")).unwrap();
    fs::remove_file(root.join("images/train/heart_0001.png")).unwrap();
    assert_finds(
        &check(),
        &[
            ("train", "pictures without labels", Refused, 1, "heart_0000.png"),
            ("train", "labels without a picture", Refused, 1, "heart_0001.png"),
            ("val", "pictures that cannot be read", Refused, 1, "disc_0000.png"),
            ("train", "labels that cannot be read", LeftOut, 1, "disc_0000.png"),
            ("train", "label values that are no class", LeftOut, 1, "[99]"),
            ("train", "labels of another size", LeftOut, 1, "32x32, its labels 16x16"),
            ("train", "pictures without a pixel that counts", Note, 1, "star_0001.png"),
            ("train", "classes that do not occur", Note, 2, "`heart`"),
        ],
    );
    fs::write(root.join("dataset.toml"), "name = 3").unwrap();
    assert_finds(&check(), &[("", "no definition", Refused, 1, "dataset.toml")]);
}

/// A sound set of a picture for each part; `change` makes the file of the part `train` another.
struct Coco(TempDir);

impl Coco {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let config =
            ObjectsConfig { img_size: 64, train_images: 4, val_images: 2, ..Default::default() };
        write_detection_folder(folder.path(), &config).unwrap();
        // Colours of a kind, so that no picture is in two parts; all classes in both.
        for part in ["train", "val"] {
            let file = folder.path().join(format!("annotations/instances_{part}.json"));
            let mut json: Value =
                serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
            json["categories"] = json!([{"id": 1, "name": "thing"}]);
            for entry in json["annotations"].as_array_mut().unwrap() {
                entry["category_id"] = json!(1);
            }
            fs::write(file, json.to_string()).unwrap();
        }
        Self(folder)
    }

    fn check(&self) -> DataReport {
        report(|observe| check_detection(self.0.path(), None, observe))
    }

    fn change(self, change: impl FnOnce(&mut Value, &Path)) -> DataReport {
        let file = self.0.path().join("annotations/instances_train.json");
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        change(&mut json, &self.0.path().join("train"));
        fs::write(file, json.to_string()).unwrap();
        self.check()
    }
}

fn push(json: &mut Value, list: &str, entry: Value) {
    json[list].as_array_mut().unwrap().push(entry);
}

#[test]
fn boxes_and_masks() {
    let sound = Coco::new().check();
    assert_finds(&sound, &[]);
    assert_eq!((sound.parts[0].images, sound.parts[0].classes), (4, 1));
    assert!(sound.parts[0].annotations.unwrap() >= 4);

    let thing = |id: u64, bbox: Value, segmentation: Value| {
        json!({"id": id, "image_id": 1, "category_id": 1, "bbox": bbox, "area": 90, "iscrowd": 0,
               "segmentation": segmentation})
    };
    let square = json!([[1, 1, 10, 1, 10, 10, 1, 10]]);
    let found = Coco::new().change(|json, _| {
        push(json, "annotations", thing(90, json!([1, 1, 0, 9]), square.clone()));
        push(json, "annotations", thing(91, json!([90, 1, 9, 9]), square.clone()));
        push(json, "annotations", thing(92, json!([-5, 1, 9, 9]), square.clone()));
        push(
            json,
            "annotations",
            thing(93, json!([1, 1, 9, 9]), json!([[1, 1, 9, 9], [1, 1, 9, 9, 5], square[0]])),
        );
        push(json, "annotations", thing(94, json!([1, 1, 9, 9]), Value::Null));
        let orphan = json!({"id": 95, "image_id": 77, "category_id": 1, "bbox": [1, 1, 9, 9],
                            "segmentation": square});
        push(json, "annotations", orphan);
        let mut crowd = thing(0, json!([1, 1, 9, 9]), square.clone());
        crowd["iscrowd"] = json!(1);
        push(json, "annotations", crowd.clone());
        push(json, "annotations", crowd);
        push(json, "categories", json!({"id": 9, "name": "other"}));
    });
    assert_finds(
        &found,
        &[
            ("", "`train` and `val` list other categories", Refused, 1, "only `train`: 9 `other`"),
            ("train", "boxes without area", LeftOut, 1, "annotation 90 in `0000.png`"),
            ("train", "boxes outside of their picture", LeftOut, 1, "in 64x64"),
            ("train", "polygons with less than three corners", LeftOut, 1, "2 of 3 polygons"),
            ("train", "annotations without mask", LeftOut, 1, "annotation 94"),
            ("train", "annotations without picture", LeftOut, 1, "annotation 95: image 77"),
            ("train", "boxes that reach over the edge", Note, 1, "annotation 92"),
            ("train", "gaps between category ids", Note, 1, "9 follows 1"),
            ("train", "categories without annotation", Note, 1, "9 `other`"),
            ("train", "crowds", Note, 2, "annotation 0"),
            ("train", "annotation ids of 0", Note, 2, "annotation 0"),
            ("train", "annotation ids of two annotations", Note, 1, "0"),
        ],
    );

    let found = Coco::new().change(|json, _| {
        push(json, "annotations", thing(90, json!([1, 1]), square.clone()));
        push(
            json,
            "annotations",
            thing(91, json!([1, 1, 9, 9]), json!({"size": [2, 2], "counts": [4]})),
        );
        push(
            json,
            "annotations",
            thing(92, json!([1, 1, 9, 9]), json!({"size": [64, 64], "counts": "d"})),
        );
        let mut unknown = thing(93, json!([1, 1, 9, 9]), square.clone());
        unknown["category_id"] = json!(5);
        push(json, "annotations", unknown);
        push(json, "categories", json!({"id": 1, "name": "thing"}));
    });
    assert_finds(
        &found,
        &[
            ("train", "category ids of two categories", Refused, 1, "1"),
            ("train", "names of two categories", Note, 1, "thing"),
            ("train", "boxes that are no four numbers", Refused, 1, "annotation 90"),
            ("train", "masks of another size", Refused, 1, "[2, 2], the picture [64, 64]"),
            ("train", "masks that are no masks", Refused, 1, "middle of a number"),
            ("train", "annotations of categories that are not listed", Refused, 1, "category 5"),
        ],
    );
}

#[test]
fn what_training_leaves_out_counts_where_it_is_judged() {
    let set = Coco::new();
    let file = set.0.path().join("annotations/instances_val.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    json["annotations"] =
        json!([{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 5], "area": 0}]);
    fs::write(&file, json.to_string()).unwrap();
    assert_finds(
        &set.check(),
        &[
            ("val", "boxes without area", Note, 1, "annotation 1"),
            ("val", "pictures without annotation", Note, 1, "0001.png"),
        ],
    );
}

#[test]
fn pictures_of_boxes() {
    let grey = RgbImage::from_pixel(64, 64, image::Rgb([128; 3]));
    let found = Coco::new().change(|json, folder| {
        fs::write(folder.join("0000.png"), "no picture").unwrap();
        RgbImage::new(32, 64).save(folder.join("0001.png")).unwrap();
        fs::remove_file(folder.join("0002.png")).unwrap();
        grey.save(folder.join("9999.png")).unwrap();
        grey.save(folder.join("0007.png")).unwrap();
        let entry = |id: u64, name: &str, width: u64| {
            json!({"id": id, "file_name": name, "width": width, "height": 64})
        };
        push(json, "images", entry(4, "0007.png", 64));
        push(json, "images", entry(70, "0003.png", 64));
        push(json, "images", entry(71, "0007.png", 0));
    });
    assert_finds(
        &found,
        &[
            ("train", "image ids of two pictures", Refused, 1, "4"),
            ("train", "sizes without or with too many pixels", Refused, 1, "0x64"),
            ("train", "pictures that are not there", Refused, 1, "0002.png"),
            ("train", "pictures that cannot be read", LeftOut, 1, "0000.png"),
            ("train", "pictures of another size", LeftOut, 2, "32x64, listed as 64x64"),
            ("train", "pictures without annotation", LeftOut, 2, "0003.png"),
            ("train", "pictures in the folder that are not listed", LeftOut, 1, "9999.png"),
            ("train", "pictures that are listed twice", Note, 2, "0003.png"),
        ],
    );

    let broken = Coco::new();
    fs::write(broken.0.path().join("annotations/instances_val.json"), "{").unwrap();
    let found = broken.check();
    assert_finds(&found, &[("val", "annotations cannot be read", Refused, 1, "EOF")]);
    let nothing = tempdir().unwrap();
    let found = report(|observe| check_detection(nothing.path(), None, observe));
    assert_finds(&found, &[("", "no definition", Refused, 1, "instances_train2017.json")]);
}

#[test]
fn one_may_break_off() {
    let set = Coco::new();
    let mut told = Vec::new();
    let found = check_detection(set.0.path(), None, &mut |part, done, of| {
        told.push((part.to_owned(), done, of));
        ControlFlow::Break(())
    });
    assert!(found.is_none());
    assert_eq!(told, [("train".to_owned(), 4, 4)]);
}
