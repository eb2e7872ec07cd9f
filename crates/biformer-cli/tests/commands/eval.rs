//! `eval` and `export`: the weights alone tell everything.

use std::fs;

use biformer::classification::imagenet1k_wordnet_ids;
use serde_json::Value;

use super::{Folder, assert_keys};

#[test]
fn eval_finds_what_train_reported() {
    let folder = Folder::with_pictures();
    let train = "train --data data --img-size 32 --batch-size 8 --epochs 2 --output run";
    let reported = folder.run(train).expect_code(0).json();
    fs::rename(folder.path("run/last.safetensors"), folder.path("weights.safetensors"))
        .expect("the weights alone");
    fs::remove_dir_all(folder.path("run")).expect("no run any more");
    for data in ["data", "data/val"] {
        let eval = format!("eval --data {data} --checkpoint weights.safetensors");
        let json = folder.run(&eval).expect_code(0).json();
        assert_keys(&json, &["val_top1", "val_top5", "val_loss", "images", "seconds"]);
        for key in ["val_top1", "val_top5", "images"] {
            assert_eq!(json[key], reported[key], "{key}");
        }
        // The mean over batches of 64 instead of 8: another order of a sum in f32.
        let loss = |json: &Value| json["val_loss"].as_f64().expect("a loss");
        assert!((loss(&json) - loss(&reported)).abs() < 1e-5, "{json} {reported}");
    }
    let eval = "eval --data data --checkpoint weights.safetensors --batch-size 5 --img-size 64";
    assert_eq!(folder.run(eval).expect_code(0).json()["images"], 24);
}

#[test]
fn eval_counts_unreadable_pictures() {
    let folder = Folder::with_run();
    folder.write("data/val/disc/broken.png", "no picture");
    let ended = folder.run("eval --data data --checkpoint run/last.safetensors").expect_code(0);
    let json = ended.json();
    assert_eq!((&json["images"], &json["skipped"]), (&24.into(), &1.into()));
    assert!(ended.stderr.contains("broken.png"), "{}", ended.stderr);
}

#[test]
fn export_gives_the_same_predictions() {
    let folder = Folder::with_run();
    let export = "export --checkpoint run/best.safetensors --output exported.safetensors";
    assert_eq!(folder.run(export).expect_code(0).json()["num_classes"], 8);
    let predict = |checkpoint: &str| {
        let predict = format!("predict data/val --format csv --checkpoint {checkpoint}");
        folder.run(&predict).expect_code(0).stdout
    };
    assert_eq!(predict("exported.safetensors"), predict("run/best.safetensors"));
    let exported = fs::read(folder.path("exported.safetensors")).expect("a file");
    assert!(exported == fs::read(folder.path("run/best.safetensors")).expect("a file"));
    let export = "export --checkpoint run/best.safetensors --output";
    folder.fails(&format!("{export} exported.pth"), 2, &["exported.pth", ".safetensors"]);
    folder.fails(&format!("{export} no/x.safetensors"), 1, &["no/x.safetensors", "No such file"]);
}

#[test]
fn another_head_is_replaced_and_said_so() {
    let folder = Folder::with_run();
    let export =
        "export --checkpoint run/best.safetensors --num-classes 3 --output three.safetensors";
    let ended = folder.run(export).expect_code(0);
    let warning = "head of 8 classes is replaced by a fresh, untrained one of 3";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    assert_eq!(ended.json()["num_classes"], 3);
    let predict = "predict data/val/disc/0000.png --checkpoint three.safetensors";
    assert!(folder.run(predict).expect_code(0).stdout.contains("class_2"));
}

/// ImageNet's folders are WordNet ids and no names of classes; a subset has some of them.
#[test]
fn imagenet_folders_are_labelled_by_their_wordnet_ids() {
    let folder = Folder::with_run();
    let export =
        "export --checkpoint run/best.safetensors --num-classes 1000 --output in1k.safetensors";
    folder.run(export).expect_code(0);
    let picture = fs::read(folder.path("data/val/disc/0000.png")).expect("a picture");
    for id in imagenet1k_wordnet_ids() {
        folder.write(&format!("in1k/val/{id}/0.png"), &picture);
    }
    let json = folder.run("eval --data in1k --checkpoint in1k.safetensors").expect_code(0).json();
    // One picture under all labels: right exactly once.
    assert_eq!((&json["images"], &json["val_top1"]), (&1000.into(), &0.001.into()));
    fs::remove_dir_all(folder.path("in1k/val/n01443537")).expect("one class less");
    let eval = "eval --data in1k --checkpoint in1k.safetensors";
    assert_eq!(folder.run(eval).expect_code(0).json()["images"], 999);
    folder.write("in1k/val/n99999999/0.png", &picture);
    folder.fails(eval, 1, &["in1k/val", "not among the 1000"]);
}
