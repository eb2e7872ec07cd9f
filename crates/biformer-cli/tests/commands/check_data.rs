//! `check-data`: what is wrong, as a table, as JSON and as exit code.

use biformer::data::shapes::{
    ObjectsConfig, ShapesConfig, write_detection_folder, write_segmentation_folder,
};

use super::{Folder, assert_keys};

#[test]
fn data_sets_are_checked_for_each_task() {
    let folder = Folder::with_pictures();
    let shapes = ShapesConfig { img_size: 32, train_per_class: 1, val_per_class: 1, seed: 0 };
    write_segmentation_folder(&folder.path("maps"), &shapes).expect("drawn pictures");
    let objects =
        ObjectsConfig { img_size: 64, train_images: 3, val_images: 2, ..Default::default() };
    write_detection_folder(&folder.path("boxes"), &objects).expect("drawn pictures");

    for (flags, parts) in [
        ("data", ["train: 64 pictures of 8 classes", "val: 24 pictures of 8 classes"]),
        ("maps --task segment", ["train: 8 pictures of 9 classes", "val: 8 pictures of 9 classes"]),
        ("boxes --task detect", ["train: 3 pictures, ", "val: 2 pictures, "]),
    ] {
        let ended = folder.run(&format!("check-data {flags}")).expect_code(0);
        parts.iter().for_each(|part| assert!(ended.stdout.contains(part), "{}", ended.stdout));
        let json = ended.json();
        assert_keys(&json, &["data", "task", "refused", "parts", "findings"]);
        assert_eq!(json["refused"], false);
    }

    // What training leaves out, and what it refuses.
    folder.write("data/train/ring/broken.png", "no picture");
    let ended = folder.run("check-data data").expect_code(0);
    let line = "skips     train        1  pictures that cannot be read\n";
    assert!(ended.stdout.contains(line) && ended.stdout.contains("broken.png"), "{}", ended.stdout);
    assert_eq!(ended.json()["findings"][0]["consequence"], "left_out");
    folder.write("maps/labels/train/disc_0001.png", "no picture");
    let ended = folder.run("check-data maps --task segment").expect_code(1);
    assert!(ended.stdout.contains("refuses   train        1  labels without a picture"));
    assert_eq!(ended.json()["refused"], true);
    folder.write("boxes/annotations/instances_val.json", "[]");
    let ended = folder.run("check-data boxes --task detect").expect_code(1);
    assert!(ended.stdout.contains("annotations cannot be read"), "{}", ended.stdout);

    folder.fails("check-data nowhere", 1, &["nowhere", "does not exist"]);
    folder.fails("check-data data --dataset camvid", 2, &["dataset", "names of folders"]);
    folder.fails("check-data data --task look", 2, &["`detect` or `instance`"]);
}
