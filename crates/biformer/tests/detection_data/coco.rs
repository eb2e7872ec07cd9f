//! Data sets: layouts, what their files say, and what is wrong with them.

use std::fs;

use biformer::data::Example;
use biformer::data::detection::{
    CocoResult, DetectionFolder, DetectionSet, Rle, read_results, write_results,
};
use serde_json::{Value, json};
use tempfile::tempdir;

use super::files::{folder, instances, open, write_image, write_json};

#[test]
fn a_part_in_the_layout_of_coco() {
    let folder = folder();
    let set = open(folder.path(), "val").unwrap();
    assert_eq!(set.class_names(), ["cat", "dog"]); // in the order of ids
    assert_eq!(set.categories.iter().map(|category| category.id).collect::<Vec<_>>(), [2, 7]);
    assert_eq!(set.samples.iter().map(|sample| sample.id).collect::<Vec<_>>(), [5, 11]);
    assert_eq!(set.without_image, 1);
    let [first, second] = [&set.samples[0], &set.samples[1]];
    assert!(first.path().ends_with("val2017/a.png") && second.instances.is_empty());
    assert_eq!((first.size, first.group(), second.group()), ([40, 60], 1, 0));
    let [dog, crowd, line] = first.instances.as_slice() else { panic!("{:?}", first.instances) };
    assert_eq!((dog.label, dog.bbox, dog.area), (1, [10.0, 5.0, 20.0, 10.0], 200.0));
    assert_eq!((dog.xyxy(), dog.is_crowd), ([10.0, 5.0, 30.0, 15.0], false));
    assert_eq!(dog.mask(first.size).bounding_box(), [10, 5, 20, 10]);
    assert!(crowd.is_crowd && crowd.mask(first.size).area() == 2400);
    assert_eq!(line.mask(first.size), Rle::empty([40, 60]));
    assert_eq!(first.decode().unwrap().dimensions(), (60, 40));
}

#[test]
fn boxes_alone_are_the_same_without_masks() {
    let folder = folder();
    let set = DetectionSet::find(folder.path(), None).unwrap();
    let mut with_masks = DetectionFolder::open(folder.path(), &set, "val").unwrap();
    let boxes = DetectionFolder::open_boxes(folder.path(), &set, "val").unwrap();
    for sample in &mut with_masks.samples {
        sample.instances.iter_mut().for_each(|instance| instance.segmentation = None);
    }
    for (a, b) in with_masks.samples.iter().zip(&boxes.samples) {
        assert_eq!(a.instances, b.instances);
    }
}

#[test]
fn pictures_without_a_thing_to_learn_can_be_left_out() {
    let folder = folder();
    let mut set = open(folder.path(), "val").unwrap();
    assert_eq!((set.keep_marked(), set.samples.len()), (1, 1));
    set.samples[0].instances.remove(0); // a crowd and a box without area are left
    assert_eq!((set.keep_marked(), set.samples.len()), (1, 0));
}

#[test]
fn a_definition_names_folders_and_files() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write_json(&root.join("labels/all.json"), &instances());
    for name in ["a", "b"] {
        let size = if name == "a" { [60, 40] } else { [40, 60] };
        write_image(&root.join(format!("pictures/{name}.png")), size);
    }
    let definition = "name = \"pets\"\n[splits.train]\nimages = \"pictures\"\n\
                      annotations = \"labels/all.json\"\n";
    fs::write(root.join("dataset.toml"), definition).unwrap();
    assert_eq!(open(root, "train").unwrap().samples.len(), 2);
    let error = open(root, "val").unwrap_err();
    assert!(error.contains("no part `val`, only `train`"), "{error}");
    fs::write(root.join("dataset.toml"), "name = \"pets\"\n[splits.train]\nimage = \"\"\n")
        .unwrap();
    let error = open(root, "train").unwrap_err();
    assert!(error.contains("dataset.toml") && error.contains("line 3"), "{error}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let set = folder();
    let root = set.path();
    let file = root.join("annotations/instances_val2017.json");
    let twice = |list: &'static str| {
        move |json: &mut Value| {
            let entry = json[list][0].clone();
            json[list].as_array_mut().unwrap().push(entry);
        }
    };
    let change = |change: &dyn Fn(&mut Value), words: [&str; 2]| {
        let mut json = instances();
        change(&mut json);
        write_json(&file, &json);
        let error = open(root, "val").unwrap_err();
        assert!(error.contains("instances_val2017.json"), "{error}");
        words.iter().for_each(|word| assert!(error.contains(word), "no `{word}` in: {error}"));
    };
    change(&twice("images"), ["image 11 is both", "its own `id`"]);
    change(&twice("categories"), ["category 7 is both", "its own `id`"]);
    change(
        &|json| json["annotations"][0]["category_id"] = json!(3),
        ["annotation 1", "category 3"],
    );
    change(&|json| json["annotations"][1]["bbox"] = json!([1, 2]), ["annotation 2", "2 numbers"]);
    change(&|json| json["annotations"][0]["bbox"][2] = json!("x"), ["line 1", "string \"x\""]);
    change(
        &|json| json["annotations"][1]["segmentation"] = json!({"size": [40, 60], "counts": [7]}),
        ["runs of 7 pixels", "line 1"],
    );
    change(
        &|json| json["annotations"][1]["segmentation"] = json!({"size": [2, 2], "counts": [4]}),
        ["annotation 2 has a mask of size [2, 2]", "[40, 60]"],
    );
    change(&|json| json["images"][0]["width"] = json!(0), ["image 11 (`b.png`)", "0x60"]);
    change(&|json| json["images"] = json!([]), ["lists no picture", ""]);
    change(&|json| json["categories"] = json!([]), ["lists no category", ""]);
    change(&|json| json["images"][1]["file_name"] = json!("c.png"), ["1 of 2 pictures", "c.png"]);
    change(&|json| *json = json!([]), ["no file of COCO instances", "line 1"]);
    fs::write(&file, "{\"images\": [").unwrap();
    let error = open(root, "val").unwrap_err();
    assert!(error.contains("EOF"), "{error}");

    let empty = tempdir().unwrap();
    let error = open(empty.path(), "val").unwrap_err();
    assert!(
        error.contains("instances_train2017.json") && error.contains("dataset.toml"),
        "{error}"
    );
    fs::create_dir(empty.path().join("annotations")).unwrap();
    let error = open(empty.path(), "val").unwrap_err();
    assert!(error.contains("instances_NAME.json"), "{error}");
}

#[test]
fn a_picture_of_another_size_is_refused() {
    let folder = folder();
    write_image(&folder.path().join("val2017/a.png"), [30, 40]);
    let error = open(folder.path(), "val").unwrap().samples[0].decode().unwrap_err().to_string();
    assert!(error.contains("30x40 pixels, but its annotations are for 60x40"), "{error}");
}

#[test]
fn parts_with_other_categories_are_told_apart() {
    let [train, val] = [folder(), folder()];
    let file = val.path().join("annotations/instances_val2017.json");
    let train = open(train.path(), "val").unwrap();
    let mut json = instances();
    for (categories, words) in [
        (json!([{"id": 2, "name": "cat"}, {"id": 7, "name": "wolf"}]), "7 `wolf`"),
        (
            json!([{"id": 2, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "x"}]),
            "9 `x`",
        ),
    ] {
        json["categories"] = categories;
        write_json(&file, &json);
        let other = open(val.path(), "val").unwrap();
        let error = train.check_same_categories(&other).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(other.check_same_categories(&train).is_err());
        other.check_same_categories(&other).unwrap();
    }
}

#[test]
fn results_come_back() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("results.json");
    let mask: Rle = serde_json::from_value(json!({"size": [4, 3], "counts": [3, 5, 4]})).unwrap();
    let found = |segmentation| CocoResult {
        image_id: 5,
        category_id: 7,
        bbox: [0.1, 1.0 / 3.0, 10.0, 2.5],
        score: 0.875,
        segmentation,
    };
    let results = [found(None), found(Some(mask))];
    write_results(&path, &results).unwrap();
    assert_eq!(read_results(&path).unwrap(), results);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"counts\":\"354\""), "{text}");
    fs::write(&path, "[{\"image_id\": 5}]").unwrap();
    let error = read_results(&path).unwrap_err().to_string();
    assert!(error.contains("category_id") && error.contains("results.json"), "{error}");
}
