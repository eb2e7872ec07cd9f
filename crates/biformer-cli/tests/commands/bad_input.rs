//! Data sets and checkpoints that cannot be used: what, where, and the cure.

use std::fs;
use std::path::Path;

use super::{Ended, Folder, TRAIN, names};

#[test]
fn data_sets_that_are_none() {
    let folder = Folder::with_pictures();
    fs::create_dir(folder.path("empty")).expect("a folder");
    folder.write("file", "text");
    folder.write("one/train/disc/a.png", "not opened");
    folder.write("one/val/disc/a.png", "not opened");
    folder.write("noval/train/disc/a.png", "not opened");
    folder.write("noval/train/ring/a.png", "not opened");
    folder.write("hollow/val/disc/a.png", "not opened");
    fs::create_dir_all(folder.path("hollow/train/disc")).expect("a folder");
    fs::create_dir_all(folder.path("hollow/train/ring")).expect("a folder");
    folder.write("other/train/disc/a.png", "not opened");
    folder.write("other/train/ring/a.png", "not opened");
    folder.write("other/val/dog/a.png", "not opened");
    for (data, words) in [
        ("nowhere", ["nowhere`", "does not exist"]),
        ("empty", ["empty`", "no folder for the split"]),
        ("file", ["file`", "is a file, not a folder"]),
        ("one", ["only one class, `disc`", "two or more"]),
        ("noval", ["no folder for the split `val`", "found `train`"]),
        ("hollow", ["class folder `disc` holds no", "fill or remove"]),
        ("other", ["`dog`", "rename or remove"]),
    ] {
        folder.fails(&format!("train --data {data} --output run"), 1, &words);
    }
    assert!(!folder.path("run").exists(), "a run that cannot start leaves no folder");
}

#[test]
fn data_that_eval_and_predict_cannot_use() {
    let folder = Folder::with_run();
    fs::create_dir(folder.path("empty")).expect("a folder");
    let checkpoint = "--checkpoint run/last.safetensors";
    for (data, word) in [("nowhere", "does not exist"), ("empty", "neither class folders")] {
        folder.fails(&format!("eval --data {data} {checkpoint}"), 1, &[data, word]);
    }
    for (picture, word) in [("nowhere.png", "no file, no folder"), ("empty", "no picture")] {
        folder.fails(&format!("predict {picture} {checkpoint}"), 1, &[picture, word]);
    }
    folder.fails(&format!("predict {checkpoint}"), 2, &["PICTURE"]);
    folder.fails(&format!("predict data/val {checkpoint} --img-size 8"), 2, &["--img-size"]);
    folder.fails(&format!("predict data/val {checkpoint} --crop-pct 0"), 2, &["crop-pct", "got 0"]);
}

#[test]
fn checkpoints_that_cannot_be_read() {
    let folder = Folder::with_run();
    let weights = fs::read(folder.path("run/last.safetensors")).expect("the weights");
    folder.write("cut.safetensors", &weights[..weights.len() / 2]);
    folder.write("cut_header.safetensors", &weights[..100]);
    folder.write("empty.pth", "");
    folder.write("page.pth", "<!DOCTYPE html><html>");
    folder.write("text.pth", "hello");
    let mut damaged = weights.clone();
    damaged[20] = b'!'; // within the header
    folder.write("damaged.safetensors", damaged);
    for (checkpoint, word) in [
        ("cut.safetensors", "copied"),
        ("cut_header.safetensors", "copied"),
        ("damaged.safetensors", "safetensors"),
        ("empty.pth", "empty"),
        ("page.pth", "web page"),
        ("text.pth", "not a checkpoint"),
        ("missing.pth", "No such file"),
        ("run", "is a folder"),
        ("data/val/disc/0000.png", "a picture"),
        ("run/checkpoint.safetensors", "`last.safetensors`"),
    ] {
        for command in ["predict data/val", "eval --data data", "export --output x.safetensors"] {
            folder.fails(&format!("{command} --checkpoint {checkpoint}"), 1, &[checkpoint, word]);
        }
        let train = format!("{TRAIN} --output other --initial-checkpoint {checkpoint}");
        folder.fails(&train, 1, &[checkpoint, word]);
    }
    assert_eq!(names(&folder.path("")).iter().filter(|name| *name == "other").count(), 0);
    assert!(!folder.path("x.safetensors").exists());
}

#[test]
fn checkpoints_of_another_model_say_which() {
    let folder = Folder::with_run();
    let words = ["does not fit biformer_tiny", "the weights look like biformer_nano"];
    let predict = "predict data/val --checkpoint run/last.safetensors --model";
    folder.fails(&format!("{predict} biformer_tiny"), 1, &words);
    folder.fails(&format!("{predict} biformer_huge"), 2, &["biformer_huge", "biformer_tiny"]);
    let train = format!("{TRAIN} --output other --model biformer_tiny");
    folder.fails(&format!("{train} --initial-checkpoint run/last.safetensors"), 1, &words);

    // Official files of a model that has no name here.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let files = names(&fixtures).into_iter().filter(|name| name.ends_with(".pth"));
    let mut tried = 0;
    for file in files {
        let checkpoint = fixtures.join(&file);
        let predict = format!("predict data/val --checkpoint {}", checkpoint.display());
        folder.fails(&predict, 1, &[&file, "no model known here", "biformer_tiny"]);
        let predict = format!("{predict} --model biformer_small");
        folder.fails(&predict, 1, &[&file, "does not fit biformer_small"]);
        tried += 1;
    }
    assert!(tried > 0, "no .pth in {}", fixtures.display());
}

#[test]
fn vector_instructions_that_the_processor_lacks() {
    let folder = Folder::with_pictures();
    let mut command = folder.command("info");
    let output = command.env("BIFORMER_SIMD", "sse9").output().expect("the binary runs");
    let ended = Ended::from(output).expect_code(2);
    for word in ["BIFORMER_SIMD", "no `sse9`", "scalar"] {
        assert!(ended.stderr.contains(word), "no `{word}` in:\n{}", ended.stderr);
    }
}

#[test]
fn products_that_the_processor_lacks() {
    let folder = Folder::with_pictures();
    for (flags, option) in [
        ("benchmark --precision bf16", "precision"),
        ("benchmark --bench train --precision bf16", "precision"),
        ("eval --data data --checkpoint x.pth --precision bf16", "precision"),
        ("predict data --checkpoint x.pth --precision bf16", "precision"),
        ("train --data data --amp", "amp"),
    ] {
        let mut command = folder.command(flags);
        let output = command.env("BIFORMER_SIMD", "scalar").output().expect("the binary runs");
        let ended = Ended::from(output).expect_code(2);
        for word in [option, "avx512_bf16", "scalar"] {
            assert!(ended.stderr.contains(word), "`{flags}`: no `{word}` in:\n{}", ended.stderr);
        }
    }
    assert!(!folder.path("runs").exists(), "a run that cannot start leaves no folder");
}

/// Several processes that know nothing of each other would write one run folder.
#[cfg(not(feature = "mpi"))]
#[test]
fn mpirun_without_mpi_says_how_to_build_it() {
    let folder = Folder::empty();
    let mut command = folder.command("train --data data");
    let ended = Ended::from(command.env("OMPI_COMM_WORLD_SIZE", "2").output().expect("it runs"));
    let stderr = ended.expect_code(2).stderr;
    assert!(stderr.contains("cargo build --release --features mpi"), "{stderr}");
}
