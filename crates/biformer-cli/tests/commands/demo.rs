//! `demo` in small, and a stdout that cannot be written.

use std::fs::OpenOptions;
use std::process::Stdio;

use super::{Ended, Folder, assert_keys, names};

#[test]
fn demo_leaves_pictures_weights_and_a_contact_sheet() {
    let folder = Folder::empty();
    let demo = "demo --train-per-class 12 --epochs 1 --output d";
    let ended = folder.run(demo).expect_code(0);
    let json = ended.json();
    assert_keys(&json, &["val_top1", "val_top5", "images", "seconds", "output"]);
    assert_eq!((&json["images"], &json["train_images"]), (&32.into(), &96.into()));
    assert_eq!(
        names(&folder.path("d")),
        [
            "best.safetensors",
            "checkpoint.safetensors",
            "data",
            "events.out.tfevents.",
            "last.safetensors",
            "metrics.jsonl",
            "predictions.png",
            "recipe.toml",
            "results.csv",
            "results.png",
        ]
    );
    let sheet = image::open(folder.path("d/predictions.png")).expect("a PNG that decodes");
    assert!(sheet.width() > 64 && sheet.height() > 64);

    folder.fails(demo, 2, &["output", "`d`", "choose another"]);
}

#[test]
fn demo_with_bad_flags_leaves_nothing() {
    let folder = Folder::empty();
    folder.fails("demo --epochs 0", 2, &["epochs", "got 0"]);
    folder.fails("demo --train-per-class 1", 2, &["--train-per-class", "2..=5000"]);
    assert_eq!(names(&folder.path("")), [""; 0]);
}

#[test]
fn a_reader_that_went_away_is_no_panic() {
    let folder = Folder::empty();
    for flags in ["info", "info --format csv", "demo --train-per-class 2 --epochs 1"] {
        let mut command = folder.command(flags);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        drop(child.stdout.take()); // as `| head -0` does
        Ended::from(child.wait_with_output().expect("it ends")).expect_code(0);
    }
}

#[test]
fn stderr_that_nobody_reads_is_no_panic() {
    let folder = Folder::empty();
    let mut command = folder.command("demo --train-per-class 2 --epochs 1");
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    drop(child.stderr.take());
    Ended::from(child.wait_with_output().expect("it ends")).expect_code(0).json();
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let folder = Folder::empty();
    let output = folder.command("info").stdin(Stdio::null()).stdout(full).output();
    let ended = Ended::from(output.expect("the binary runs")).expect_code(1);
    assert!(ended.stderr.contains("No space left"), "{}", ended.stderr);
}
