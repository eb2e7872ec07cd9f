//! `label-maps`, and training with what it writes.

use std::fs;

use super::{Folder, assert_keys, names};

const MAPS: &str = "label-maps --data data --checkpoint run/best.safetensors --output maps";

#[test]
fn what_is_there_is_kept_and_what_lacks_is_made() {
    let folder = Folder::with_run();
    folder.write("data/train/disc/broken.png", "no picture");
    let ended = folder.run(&format!("{MAPS} --grid 2 --batch-size 7")).expect_code(0);
    let json = ended.json();
    assert_keys(&json, &["images", "written", "skipped", "grid", "annotator", "seconds", "output"]);
    let counts = ["images", "written", "skipped", "grid"].map(|key| json[key].clone());
    assert_eq!(counts, [65, 64, 1, 2].map(serde_json::Value::from));
    assert!(ended.stderr.contains("broken.png"), "{}", ended.stderr);
    assert_eq!(names(&folder.path("maps/disc")).len(), 8);
    assert!(names(&folder.path("maps")).contains(&"label_maps.json".to_owned()));

    let (kept, gone) = (folder.path("maps/ring/0000.png.safetensors"), folder.path("maps/disc"));
    fs::write(&kept, "kept").expect("a file");
    fs::remove_dir_all(gone).expect("a folder");
    // The train folder itself will do.
    let again = MAPS.replace("--data data", "--data data/train");
    let json = folder.run(&format!("{again} --grid 2")).expect_code(0).json();
    assert_eq!(json["written"], 8);
    assert_eq!(fs::read(kept).expect("a file"), b"kept");

    folder.fails(
        &format!("{MAPS} --grid 3"),
        1,
        &["`maps`", "choose another folder", "[2, 2]", "[3, 3]"],
    );
    folder.fails(&format!("{MAPS} --grid 0"), 2, &["--grid"]);
    fs::create_dir_all(folder.path("data/train/unknown")).expect("a folder");
    fs::copy(folder.path("data/train/ring/0000.png"), folder.path("data/train/unknown/0.png"))
        .expect("a picture");
    folder.fails(&format!("{MAPS} --grid 2"), 2, &["`checkpoint`", "`unknown`"]);
}
