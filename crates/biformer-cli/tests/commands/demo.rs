//! `demo` in small, `info`, and a stdout that cannot be written.

use std::fs::OpenOptions;
use std::process::Stdio;

use serde_json::Value;

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
fn info_lists_the_models() {
    let folder = Folder::empty();
    let rows = folder.run("info --format json").expect_code(0).stdout;
    let rows: Vec<Value> = serde_json::from_str(&rows).expect("JSON");
    let tiny = rows.iter().find(|row| row["model"] == "biformer_tiny").expect("tiny");
    assert_eq!(tiny["params"], 13_142_760);
    let table = folder.run("info biformer_tiny --img-size 224").expect_code(0).stdout;
    assert!(table.contains("13,142,760") && table.contains("2.228"), "{table}");
    let csv = folder.run("info --format csv").expect_code(0).stdout;
    assert_eq!(csv.lines().count(), 1 + rows.len());
    folder.fails("info resnet50", 2, &["resnet50", "biformer_tiny"]);
}

#[test]
fn info_counts_layers_and_regions() {
    let folder = Folder::empty();
    let info = |flags: &str| folder.run(&format!("info {flags}")).expect_code(0).stdout;
    let layers = info("biformer_tiny --layers --format json");
    let layers: Vec<Value> = serde_json::from_str(&layers).expect("JSON");
    let sum = |key: &str| layers.iter().filter_map(|layer| layer[key].as_u64()).sum::<u64>();
    assert_eq!((sum("params"), sum("macs") / 1_000_000), (13_142_760, 2228));
    let of_head = layers.iter().find(|layer| layer["layer"] == "head").expect("the head");
    assert_eq!((of_head["macs"].as_u64(), &of_head["operator"]), (Some(512_000), &"linear".into()));
    assert!(info("biformer_tiny --layers").contains("stages.2.blocks.7.mlp.fc2"));

    // 64 keys a query in each stage of the paper's models at 224².
    let table = info("biformer_tiny");
    assert_eq!(table.matches(": 64 keys a query").count(), 3, "{table}");
    // (1/2 · 3136²)^(1/6)
    assert!(table.contains("56 × 56 tokens  7 × 7 regions of 8 × 8, k = 1"), "{table}");
    assert!(table.contains("S of Eq. 9: 13.0"), "{table}");
    let table = info("biformer_tiny --size 512x768 --n-win 8 --topk 2,8,32");
    assert!(table.contains("GMACs @512x768"), "{table}");
    assert!(
        table.contains("128 × 192 tokens  8 × 8 regions of 16 × 24, k = 2: 768 keys"),
        "{table}"
    );

    folder.fails("info --img-size 16", 2, &["img-size", "32 to 8192", "got 16"]);
    folder.fails("info --topk 1,4", 2, &["--topk", "as in 1,4,16"]);
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
