//! Detectors: from generated scenes to weights, scores and drawings, and what is refused on the way.

use std::fs;

use biformer::data::decode;
use biformer::data::detection::read_results;
use biformer::data::shapes::{ObjectsConfig, write_detection_folder};
use biformer::detection::{IouType, evaluate_results};
use serde_json::Value;

use super::{Folder, assert_keys, names};

impl Folder {
    /// With `scenes`, 8 training and 4 validation pictures of 64², and the run `run` of one epoch on it; and what the
    /// run told at its end.
    fn with_detector(task: &str) -> (Self, Value) {
        let folder = Self::empty();
        let config =
            ObjectsConfig { img_size: 64, train_images: 8, val_images: 4, ..Default::default() };
        write_detection_folder(&folder.path("scenes"), &config).expect("drawn pictures");
        let train = "--data scenes --model biformer_pico --neck-channels 16 --head-channels 16 \
                     --stacked-convs 1 --img-scale 64 64 --batch-size 4 --epochs 1 --warmup-iters 2 \
                     --output run";
        let trained = folder.run(&format!("train --task {task} {train}")).expect_code(0).json();
        assert_keys(&trained, &["best_val_bbox_mAP", "seconds"]);
        (folder, trained)
    }
}

/// Boxes and masks, by Mask R-CNN.
#[test]
fn instances_are_learnt_scored_and_drawn() {
    let (folder, trained) = Folder::with_detector("instance");
    assert_keys(&trained, &["val_segm_mAP", "val_segm_mAP_75"]);
    let csv = fs::read_to_string(folder.path("run/results.csv")).expect("results");
    assert!(csv.contains(",val_bbox_mAP_75,val_segm_mAP,val_segm_mAP_50,"), "{csv}");

    let eval = format!("eval --data scenes {WEIGHTS} --score-thr 0 --output scores");
    let ended = folder.run(&eval).expect_code(0);
    assert_keys(&ended.json(), &["bbox_mAP", "segm_mAP", "segm_AR@100", "method"]);
    assert_eq!(ended.json()["method"], "mask_rcnn");
    assert!(ended.stdout.contains("mask AP"), "{}", ended.stdout);
    let results = folder.path("scores/results.json");
    let found = read_results(&results).expect("detections");
    assert!(!found.is_empty() && found.iter().all(|thing| thing.segmentation.is_some()));
    let truth = folder.path("scenes/annotations/instances_val.json");
    let (again, _) = evaluate_results(&truth, &results, IouType::Segm).expect("scores");
    assert_eq!(again.ap(), ended.json()["segm_mAP"].as_f64().expect("a score"));

    let predict =
        format!("predict scenes/val {WEIGHTS} --score-thr 0 --max-per-img 3 --output seen");
    let ended = folder.run(&format!("{predict} --format json")).expect_code(0);
    let seen: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(seen.len(), 4);
    for thing in seen.iter().flat_map(|picture| picture["detections"].as_array().expect("a list")) {
        assert_eq!(thing["segmentation"]["size"], serde_json::json!([64, 64]), "{thing}");
    }
}

const WEIGHTS: &str = "--checkpoint run/last.safetensors";

#[test]
fn detectors_are_scored_and_their_detections_drawn() {
    let (folder, _) = Folder::with_detector("detect");
    // A model of one epoch is sure of nothing.
    let eval = format!("eval --data scenes {WEIGHTS} --score-thr 0 --output scores");
    let ended = folder.run(&eval).expect_code(0);
    let scores = ended.json();
    assert_keys(&scores, &["bbox_mAP", "bbox_mAP_50", "bbox_AR@100", "images", "method", "split"]);
    assert!(
        ended.stdout.contains("class") && ended.stdout.contains("triangle"),
        "{}",
        ended.stdout
    );
    let csv = fs::read_to_string(folder.path("scores/per_class.csv")).expect("a table");
    assert_eq!(csv.lines().count(), 1 + 8, "{csv}");
    // The file has what was scored.
    let results = folder.path("scores/results.json");
    let found = read_results(&results).expect("detections");
    assert_eq!(found.len(), 4 * 100);
    let truth = folder.path("scenes/annotations/instances_val.json");
    let (again, _) = evaluate_results(&truth, &results, IouType::Bbox).expect("scores");
    let recall = scores["bbox_AR@100"].as_f64().expect("a recall");
    assert!(recall > 0.0, "{scores}");
    assert_eq!(again.named()[8], ("AR100", recall));
    assert_eq!(again.ap(), scores["bbox_mAP"].as_f64().expect("a score"));
    let few = folder.run(&format!("eval --data scenes {WEIGHTS} --split train --max-per-img 1"));
    assert_eq!(few.expect_code(0).json()["split"], "train");

    let predict =
        format!("predict scenes/val {WEIGHTS} --score-thr 0 --max-per-img 5 --output seen");
    let ended = folder.run(&format!("{predict} --format json")).expect_code(0);
    let seen: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON");
    let file = fs::read_to_string(folder.path("seen/predictions.json")).expect("a file");
    assert_eq!((seen.len(), file), (4, ended.stdout));
    for picture in &seen {
        let path = |key: &str| folder.path(picture[key].as_str().expect("a path"));
        let (image, drawing) = (decode(&path("file")), decode(&path("drawing")));
        let (image, drawing) = (image.expect("a picture"), drawing.expect("a drawing"));
        assert_eq!(drawing.dimensions(), (64, 64));
        assert_ne!(drawing, image);
        let found = picture["detections"].as_array().expect("a list");
        assert_eq!(found.len(), 5);
        let score = |found: &Value| found["score"].as_f64().expect("a score");
        assert!(found.is_sorted_by(|a, b| score(a) >= score(b)));
        for thing in found {
            let bbox: [f64; 4] = serde_json::from_value(thing["bbox"].clone()).expect("a box");
            assert!(bbox.iter().all(|at| (0.0..=64.0).contains(at)), "{thing}");
            assert!(bbox[2] > bbox[0] && bbox[3] > bbox[1], "{thing}");
        }
    }
    let csv = folder.run(&format!("{predict} --format csv")).expect_code(0).stdout;
    assert!(csv.starts_with("file,index,class,score,left,top,right,bottom\nscenes/val/"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 4 * 5);

    // Without a flag, only what it is sure of: nothing yet, so that nothing is drawn.
    let ended = folder.run(&format!("predict scenes/val/0000.png {WEIGHTS}")).expect_code(0);
    assert_eq!(ended.stdout, "scenes/val/0000.png\n");
    assert_eq!(names(&folder.path("runs/predict")), ["0000.png", "predictions.json"]);
    let pictures = ["scenes/val/0000.png", "runs/predict/0000.png"];
    let [image, drawing] = pictures.map(|path| decode(&folder.path(path)).expect("a picture"));
    assert_eq!(image, drawing);

    for (flags, code, words) in [
        (format!("eval --data scenes {WEIGHTS} --split test"), 1, ["test", "`train`, `val`"]),
        (format!("eval --data run {WEIGHTS}"), 1, ["run", "instances_train2017.json"]),
        (format!("eval --data scenes {WEIGHTS} --img-size 64"), 2, ["img-size", "--img-scale"]),
        (format!("eval --data scenes {WEIGHTS} --aug-test"), 2, ["aug-test", "segmentors"]),
        (format!("eval --data scenes {WEIGHTS} --score-thr 2"), 2, ["score_threshold", "0 to 1"]),
        (
            format!("eval --data scenes {WEIGHTS} --task segment"),
            1,
            ["decode_head", "no segmentor"],
        ),
        ("eval --data scenes --task detect".to_owned(), 2, ["checkpoint", "detector"]),
        ("predict scenes/val --score-thr 0.5".to_owned(), 2, ["score-thr", "detectors"]),
        (format!("predict scenes/val {WEIGHTS} --opacity 2"), 2, ["opacity", "got 2"]),
        (
            format!("predict scenes/val {WEIGHTS} --max-per-img 0"),
            2,
            ["max_per_image", "1 or more"],
        ),
    ] {
        folder.fails(&flags, code, &words);
    }
    let annotations = folder.path("scenes/annotations/instances_val.json");
    let text = fs::read_to_string(&annotations).expect("annotations");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    json["categories"]
        .as_array_mut()
        .expect("a list")
        .push(serde_json::json!({"id": 9, "name": "x"}));
    fs::write(&annotations, json.to_string()).expect("a file");
    folder.fails(&format!("eval --data scenes {WEIGHTS}"), 1, &["9 categories", "the model has 8"]);
}
