//! The weights that are built in: the default of `predict` and `eval`, and a start for training.

use std::fs;
use std::path::Path;
use std::process::Command;

use biformer::classification::PRETRAINED;

use super::Folder;

#[test]
fn predict_needs_no_weights() {
    let folder = Folder::with_pictures();
    let ended = folder.run("predict data/val/disc/0000.png --topk 1").expect_code(0);
    assert!(ended.stderr.contains(PRETRAINED[0].name), "{}", ended.stderr);
    let known = ["tench", "English springer", "cassette player", "chain saw", "church"];
    let known = known.into_iter().chain(["French horn", "garbage truck", "gas pump"]);
    let mut known = known.chain(["golf ball", "parachute"]);
    assert!(known.any(|class| ended.stdout.contains(class)), "{}", ended.stdout);
}

#[test]
fn training_can_start_from_them() {
    let folder = Folder::with_pictures();
    let name = PRETRAINED[0].name;
    let train = "train --data data --img-size 32 --batch-size 8 --epochs 1 --output run";
    let ended = folder.run(&format!("{train} --initial-checkpoint {name}")).expect_code(0);
    assert!(ended.stderr.contains("head of 10 classes is replaced"), "{}", ended.stderr);
    let resumed = folder.run("train --resume run").expect_code(0);
    assert_eq!(resumed.json()["epochs"], 1);
}

#[test]
fn half_the_size_is_as_good() {
    let folder = Folder::with_run();
    let export = "export --checkpoint run/best.safetensors --output";
    folder.run(&format!("{export} whole.safetensors")).expect_code(0);
    folder.run(&format!("{export} half.safetensors --half")).expect_code(0);
    let size = |name: &str| fs::metadata(folder.path(name)).expect("a file").len();
    let (whole, half) = (size("whole.safetensors"), size("half.safetensors"));
    // The header, some 20 KB of names, stays as it is.
    assert!(half < whole / 2 + 20_000, "{half} of {whole} bytes");
    let eval = |name: &str| {
        let eval = format!("eval --data data --checkpoint {name}.safetensors");
        folder.run(&eval).expect_code(0).json()["val_loss"].as_f64().expect("a loss")
    };
    // Weights keep eleven bits, the loss of this run is about 2.
    assert!((eval("whole") - eval("half")).abs() < 0.01, "{} {}", eval("whole"), eval("half"));
}

/// Weights that were trained at one size may be better at another.
#[test]
fn an_exported_file_has_the_size_that_was_asked_for() {
    let folder = Folder::with_run();
    let export = "export --checkpoint run/best.safetensors --img-size 96 --crop-pct 0.9 --output";
    folder.run(&format!("{export} sized.safetensors")).expect_code(0);
    let eval = |flags: &str| folder.run(&format!("eval --data data {flags}")).expect_code(0).json();
    let found = eval("--checkpoint sized.safetensors");
    let expected = eval("--checkpoint run/best.safetensors --img-size 96 --crop-pct 0.9");
    assert_eq!(found["val_loss"], expected["val_loss"]);
}

/// What `biformer info` and the README state. Needs the data sets.
#[test]
fn they_have_the_accuracies_that_are_stated() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let sets = [("imagenette128", 1000), ("cifar10", 8000)];
    for (stated, (set, images)) in PRETRAINED.into_iter().zip(sets) {
        let archive = data.join(format!("{set}.tar.gz"));
        if !archive.exists() {
            println!("skipped: no {}", archive.display());
            continue;
        }
        let folder = Folder::empty();
        let mut unpack = Command::new("tar");
        unpack.arg("-xzf").arg(&archive).arg("-C").arg(folder.path("."));
        assert!(unpack.status().expect("tar").success());
        let eval = format!("eval --data {set} --checkpoint {}", stated.name);
        let json = folder.run(&eval).expect_code(0).json();
        assert_eq!(json["images"], images, "{set}");
        // Another processor rounds otherwise, which may move a picture or two at the border.
        let found = json["val_top1"].as_f64().expect("an accuracy");
        assert!((found - stated.top1).abs() <= 0.002, "{set}: {found}, stated: {}", stated.top1);
    }
}
