//! Segmentors: from a folder of pictures to weights, scores and drawings, and what is refused on the way.

use std::fs;

use biformer::data::decode;
use biformer::data::segmentation::read_label_values;
use biformer::data::shapes::{ShapesConfig, write_segmentation_folder};

use super::{Folder, assert_keys, names};

impl Folder {
    /// With `scenes`: 16 training and 8 validation pictures of 64².
    fn with_scenes() -> Self {
        let folder = Self::empty();
        let config = ShapesConfig { img_size: 64, train_per_class: 2, val_per_class: 1, seed: 0 };
        write_segmentation_folder(&folder.path("scenes"), &config).expect("drawn pictures");
        folder
    }
}

/// A run of seconds.
const TRAIN: &str = "train --task segment --data scenes --model biformer_pico --neck-channels 16 \
                     --head-channels 16 --aux-channels 16 --crop-size 64 --img-scale 64 64 --batch-size 4 \
                     --warmup-iters 2";

#[test]
fn segmentation_from_training_to_drawings() {
    let folder = Folder::with_scenes();
    let train = format!("{TRAIN} --max-iters 4 --val-interval 2 --output run");
    let ended = folder.run(&format!("{train} --initial-checkpoint biformer_pico.cifar10"));
    let ended = ended.expect_code(0);
    assert!(
        ended.stderr.contains("tensors of the classifier; 8 that it lacks"),
        "{}",
        ended.stderr
    );
    let trained = ended.json();
    assert_keys(&trained, &["val_mIoU", "val_mAcc", "val_aAcc", "best_val_mIoU", "seconds"]);
    assert_eq!((&trained["epochs"], &trained["images"]), (&2.into(), &8.into()));
    let results = fs::read_to_string(folder.path("run/results.csv")).expect("results");
    let header = "epoch,train_loss,train_acc_seg,val_mIoU,val_mAcc,val_aAcc,lr,images_per_second,\
                  seconds,skipped,val_images\n1,";
    assert!(results.starts_with(header), "{results}");
    assert!(names(&folder.path("run")).contains(&"results.png".to_owned()));
    let recipe = fs::read_to_string(folder.path("run/recipe.toml")).expect("the recipe");
    assert!(recipe.contains("task = \"segment\"") && !recipe.contains("mixup"), "{recipe}");

    // The file says what it is.
    let eval = "eval --data scenes --checkpoint run/last.safetensors";
    let ended = folder.run(&format!("{eval} --output scores")).expect_code(0);
    let scores = ended.json();
    for (name, of_training) in [("mIoU", "val_mIoU"), ("mAcc", "val_mAcc"), ("aAcc", "val_aAcc")] {
        assert_eq!(scores[name], trained[of_training], "{name}");
    }
    assert!(
        ended.stdout.contains("background") && ended.stdout.contains("IoU"),
        "{}",
        ended.stdout
    );
    let csv = fs::read_to_string(folder.path("scores/per_class.csv")).expect("a table");
    assert_eq!(csv.lines().count(), 1 + 9, "{csv}");
    for flags in ["--mode slide --crop-size 48 --stride 32", "--aug-test", "--split train --flip"] {
        let json = folder.run(&format!("{eval} {flags}")).expect_code(0).json();
        assert!(json["mIoU"].as_f64().is_some_and(|score| score > 0.0), "{flags}: {json}");
    }

    let predict = "predict scenes/images/val --checkpoint run/last.safetensors --output seen";
    let ended = folder.run(&format!("{predict} --format json")).expect_code(0);
    let seen: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(seen.as_array().map(Vec::len), Some(8));
    for picture in seen.as_array().expect("a list") {
        let file = |key: &str| folder.path(picture[key].as_str().expect("a path"));
        let (overlay, map) = (decode(&file("overlay")), read_label_values(&file("labels")));
        let (overlay, map) = (overlay.expect("a picture"), map.expect("a label map"));
        assert_eq!(map.dimensions(), (64, 64));
        assert!(overlay.width() > 64, "no legend");
        let classes = picture["classes"].as_array().expect("a list");
        let area = |class: &serde_json::Value| class["area"].as_f64().expect("an area");
        assert!((classes.iter().map(area).sum::<f64>() - 1.0).abs() < 1e-9, "{picture}");
        for class in classes {
            let index = class["index"].as_u64().expect("an index");
            let pixels = map.as_raw().iter().filter(|&&pixel| u64::from(pixel) == index).count();
            assert_eq!(area(class), pixels as f64 / (64.0 * 64.0), "{picture}");
        }
    }
    let csv = folder.run(&format!("{predict} --format csv")).expect_code(0).stdout;
    assert!(csv.starts_with("file,index,class,area\nscenes/images/val/"), "{csv}");
}

#[test]
fn what_segmentation_cannot_use_is_named() {
    let folder = Folder::with_scenes();
    let train = format!("{TRAIN} --max-iters 2 --val-interval 2 --output run");
    for (flags, code, words) in [
        ("--method deeplab", 2, ["deeplab", "semantic_fpn, upernet"]),
        ("--task detect", 2, ["detect", "segment"]),
        ("--max-iters 3", 2, ["max_iters", "multiple of val_interval"]),
        ("--mixup 0.8", 2, ["mixup", "means nothing to segmentation"]),
        ("--dataset nowhere", 1, ["nowhere", "`ade20k`"]),
        ("--data .", 1, ["dataset.toml", "name a set"]),
        ("--initial-checkpoint biformer_nano.imagenette", 1, ["biformer_pico", "biformer_nano"]),
    ] {
        let given = flags.split(' ').next().expect("a flag");
        // A flag may be given once only.
        let mut base: Vec<&str> = train.split_whitespace().collect();
        if let Some(at) = base.iter().position(|flag| *flag == given) {
            base.drain(at..at + 2);
        }
        folder.fails(&format!("{} {flags}", base.join(" ")), code, &words);
    }
    folder.fails("train --data scenes --crop-size 64", 2, &["crop_size", "task = \"segment\""]);
    folder.fails("train --task segment", 2, &["data", "dataset.toml"]);

    folder.run(&train).expect_code(0);
    let weights = "--checkpoint run/last.safetensors";
    for (flags, code, words) in [
        (format!("eval --data scenes {weights} --split test"), 1, ["test", "`train`, `val`"]),
        (format!("eval --data scenes {weights} --img-size 64"), 2, ["img-size", "--img-scale"]),
        (format!("eval --data scenes {weights} --stride 8"), 2, ["stride", "--mode slide"]),
        (format!("eval --data scenes {weights} --task classify"), 1, ["head", "segmentation"]),
        (format!("eval --data scenes {weights} --img-ratios 0"), 2, ["ratios", "0.01"]),
        ("eval --data scenes --task segment".to_owned(), 2, ["checkpoint", "segmentor"]),
        ("predict scenes/images/val --flip".to_owned(), 2, ["flip", "segmentors"]),
        ("predict scenes/images/val --output seen".to_owned(), 2, ["output", "segmentors"]),
        (format!("predict scenes/images/val {weights} --opacity 2"), 2, ["opacity", "got 2"]),
    ] {
        folder.fails(&flags, code, &words);
    }
    let other = "name = \"two\"\nclasses = [\"a\", \"b\"]\n[splits.val]\nimages = \"images/val\"\n\
                 labels = \"labels/val\"\n";
    folder.write("two.toml", other);
    let eval = format!("eval --data scenes {weights} --dataset two.toml");
    folder.fails(&eval, 1, &["2 classes (two)", "the model has 9"]);
}
