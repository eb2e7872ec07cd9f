//! `label-maps`, and training with what it writes.

use std::fs;

use super::{Folder, TRAIN, assert_keys, names};

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

#[test]
fn a_model_learns_from_the_maps_and_is_used_like_any_other() {
    let folder = Folder::with_run();
    folder.run(&format!("{MAPS} --grid 2")).expect_code(0);
    let train = TRAIN.replace("--img-size 32", "--img-size 64");
    let train =
        format!("{train} --epochs 1 --token-label --token-label-data maps --class-blocks 1");
    let reported = folder.run(&format!("{train} --output tokens")).expect_code(0).json();
    let eval = "eval --data data --checkpoint tokens/last.safetensors";
    let found = folder.run(eval).expect_code(0).json();
    assert_eq!(found["val_top1"], reported["val_top1"]);
    // The new model can be an annotator in turn.
    let again = MAPS.replace("run/best", "tokens/last").replace("output maps", "output maps2");
    folder.run(&format!("{again} --grid 2")).expect_code(0);

    fs::remove_file(folder.path("maps/ring/0003.png.safetensors")).expect("a map");
    let fails = |from: &str, to: &str, code, words: &[&str]| {
        folder.fails(&format!("{} --output other", train.replace(from, to)), code, words);
    };
    let missing = ["lacks the label maps of 1 of 64", "0003.png", "biformer label-maps"];
    fails("", "", 1, &missing);
    fails("data maps", "data data", 1, &["no label maps", "biformer label-maps"]);
    fails("--token-label ", "", 2, &["`token_label_data`", "token_label = true"]);
    fails("--class-blocks", "--cutmix", 2, &["`cutmix`", "must be 0 with token_label"]);
    fails("--img-size 64", "--img-size 72", 2, &["`img_size`", "a multiple of 32"]);
    fails("--token-label-data maps", "", 2, &["`token_label_data`", "biformer label-maps"]);
    assert!(!folder.path("other").exists());
}
