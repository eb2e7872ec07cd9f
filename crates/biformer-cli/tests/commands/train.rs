//! What `train` writes and says, and what it refuses.

use std::fs;

use super::{Folder, TRAIN, assert_keys, names};

#[test]
fn train_leaves_a_run_folder() {
    let folder = Folder::with_pictures();
    let ended = folder.run(&format!("{TRAIN} --epochs 2 --output run")).expect_code(0);
    let json = ended.json();
    assert_keys(&json, &["val_top1", "val_top5", "best_val_top1", "images", "seconds", "output"]);
    assert_eq!((&json["images"], &json["output"]), (&24.into(), &"run".into()));
    assert_eq!(ended.stdout.lines().count(), 1, "progress belongs to stderr");
    assert_eq!(
        names(&folder.path("run")),
        [
            "best.safetensors",
            "checkpoint.safetensors",
            "events.out.tfevents.",
            "last.safetensors",
            "metrics.jsonl",
            "recipe.toml",
            "results.csv",
            "results.png",
        ]
    );
    let recipe = fs::read_to_string(folder.path("run/recipe.toml")).expect("the recipe");
    assert!(recipe.contains("drop_path = 0.2") && recipe.contains("epochs = 2"), "{recipe}");

    // The resolved recipe is a recipe: it gives the same weights again.
    folder.run("train run/recipe.toml --output again").expect_code(0);
    let weights = |run: &str| fs::read(folder.path(run).join("last.safetensors")).expect("weights");
    assert!(weights("again") == weights("run"), "other weights from the same recipe");
}

#[test]
fn the_default_folder_is_a_free_one() {
    let folder = Folder::with_pictures();
    let train = format!("{TRAIN} --epochs 1");
    let outputs = [0, 1].map(|_| folder.run(&train).expect_code(0).json()["output"].clone());
    assert_eq!(outputs, ["runs/train", "runs/train2"]);
}

#[test]
fn an_unreadable_picture_is_skipped_and_counted() {
    let folder = Folder::with_pictures();
    folder.write("data/train/disc/broken.png", "no picture");
    folder.write("data/val/disc/broken.jpg", "no picture");
    // With a batch of all pictures none is left out at the end of the epoch.
    let flags = "train --data data --img-size 32 --batch-size 65 --epochs 1 --output run";
    let ended = folder.run(flags).expect_code(0);
    for picture in ["train/disc/broken.png", "val/disc/broken.jpg"] {
        assert!(ended.stderr.contains(picture), "{}", ended.stderr);
    }
    assert_eq!(ended.json()["images"], 24);
    let mut csv = csv::Reader::from_path(folder.path("run/results.csv")).expect("results");
    let skipped = csv.headers().expect("a header").iter().position(|column| column == "skipped");
    let row = csv.records().next().expect("a row").expect("a row");
    assert_eq!(&row[skipped.expect("the column `skipped`")], "2");
}

#[test]
fn a_checkpoint_with_another_head_can_be_trained_on() {
    let folder = Folder::with_run();
    for class in ["disc", "ring"] {
        for split in ["train", "val"] {
            let name = folder.path("two").join(split);
            fs::create_dir_all(&name).expect("a folder");
            fs::rename(folder.path("data").join(split).join(class), name.join(class))
                .expect("a class");
        }
    }
    let train = "train --data two --img-size 32 --batch-size 8 --epochs 1 --output fine";
    let ended = folder.run(&format!("{train} --initial-checkpoint run/best.safetensors"));
    let stderr = ended.expect_code(0).stderr;
    assert!(stderr.contains("head of 8 classes is replaced by a fresh one of 2"), "{stderr}");
}

#[test]
fn a_loss_that_is_no_number_ends_the_run() {
    let folder = Folder::with_pictures();
    let train = "train --data data --img-size 32 --batch-size 8 --warmup-epochs 0 --output run";
    // A hundred thousand times too large: the weights overflow within a few steps.
    let flags = format!("{train} --epochs 5 --lr 100");
    folder.fails(&flags, 1, &["the loss is", "learning rate", "in a new run"]);
    let ended = folder.run(&format!("{train}2 --epochs 5 --lr 100"));
    assert!(!ended.stderr.contains("--resume"), "{}", ended.stderr);
}

#[test]
fn flags_out_of_range_are_wrong_usage() {
    let folder = Folder::with_pictures();
    for (flags, words) in [
        ("--epochs 0", ["epochs", "got 0"]),
        ("--epochs many", ["--epochs", "many"]),
        ("--lr -1", ["lr", "got -1"]),
        ("--lr nan", ["lr", "got nan"]),
        ("--min-lr 1", ["min_lr", "got 1"]),
        ("--img-size 8", ["img_size", "got 8"]),
        ("--batch-size 0", ["batch_size", "got 0"]),
        ("--drop-path 1", ["drop_path", "got 1"]),
        ("--smoothing -0.1", ["smoothing", "got -0.1"]),
        ("--scale 0.5 0.1", ["scale", "got [0.5, 0.1]"]),
        ("--warmup-epochs 99", ["warmup_epochs", "got 99"]),
        ("--seed 18446744073709551615", ["seed", "2^63"]),
        ("--model resnet50", ["resnet50", "biformer_tiny"]),
        ("--device tpu", ["tpu", "cpu"]),
        ("--device cuda:x", ["cuda:x", "cuda:1"]),
        ("--unknown 1", ["--unknown", "Usage"]),
        ("--resume run", ["--resume", "cannot be used with"]),
    ] {
        folder.fails(&format!("train --data data --output run {flags}"), 2, &words);
    }
    if !cfg!(feature = "cuda") {
        folder.fails("train --data data --device cuda", 2, &["cuda is not built in", "--features"]);
    }
    folder.fails("train", 2, &["data", "`train` and `val`"]);
    assert_eq!(names(&folder.path("")), ["data"], "a run that cannot start leaves no folder");
}

#[test]
fn a_bad_recipe_is_named_with_file_key_and_line() {
    let folder = Folder::with_pictures();
    for (text, words) in [
        ("epochs = 2\nlearning_rate = 1.0\n", ["line 2", "learning_rate", "expected one of"]),
        ("epochs = 2\n\nlr = \"high\"\n", ["line 3", "lr = ", "invalid type"]),
        ("epochs = 2\nlr =\n", ["line 2", "lr =", "recipe"]),
        ("# a comment\nlr = -0.1\n", ["line 2", "`lr`", "got -0.1"]),
        ("model = \"resnet50\"\n", ["line 1", "`model`", "biformer_tiny"]),
    ] {
        folder.write("recipe.toml", text);
        let words = [&["recipe.toml"], words.as_slice()].concat();
        folder.fails("train recipe.toml --data data --output run", 1, &words);
    }
    let missing = folder.run("train missing.toml --data data").expect_code(1).stderr;
    assert!(missing.contains("missing.toml: cannot read"), "{missing}");
    assert_eq!(missing.matches("No such file").count(), 1, "said once: {missing}");
    folder.fails("train data --data data", 1, &["data", "directory"]);
    folder.write("recipe.toml", [0xff, 0xfe]);
    folder.fails("train recipe.toml --data data", 1, &["recipe.toml", "UTF-8"]);
    assert_eq!(names(&folder.path("")), ["data", "recipe.toml"]);
}

#[test]
fn what_cannot_be_resumed_is_named() {
    let folder = Folder::with_run();
    folder.fails("train --resume data", 2, &["resume", "`data`", "recipe.toml"]);
    folder.fails("train --resume nowhere", 2, &["`nowhere`", "recipe.toml"]);
    folder.fails("train --resume run --epochs 9", 2, &["--resume", "--epochs"]);
    folder.fails("train --resume run --output run2", 2, &["--resume", "--output"]);
    folder.fails(&format!("{TRAIN} --output run"), 2, &["`run`", "already holds a run"]);

    folder.write("run/checkpoint.safetensors", "nonsense");
    folder.fails("train --resume run", 1, &["run/checkpoint.safetensors", "not a checkpoint"]);
    fs::copy(folder.path("run/last.safetensors"), folder.path("run/checkpoint.safetensors"))
        .expect("a copy");
    folder.fails(
        "train --resume run",
        1,
        &["checkpoint.safetensors", "no state of a training run"],
    );
}
