//! Scores a file of detections against a file of annotations, as pycocotools does.
//!
//! `cargo run --release --example coco_eval -- instances_val2017.json results.json bbox|segm`

use std::path::Path;

use biformer::detection::{IouType, evaluate_results};
use biformer::{Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [annotations, results, iou_type] = arguments.as_slice() else {
        return Err(Error::option("arguments", "expected ANNOTATIONS RESULTS bbox|segm"));
    };
    let iou_type = match iou_type.as_str() {
        "bbox" => IouType::Bbox,
        "segm" => IouType::Segm,
        other => return Err(Error::option("iou_type", format!("{other}, expected bbox or segm"))),
    };
    let (scores, categories) =
        evaluate_results(Path::new(annotations), Path::new(results), iou_type)?;
    for (name, score) in scores.named() {
        println!("{name} {score}");
    }
    for (category, class) in categories.iter().zip(&scores.classes) {
        println!("{} {}", category.name, class.ap());
    }
    Ok(())
}
