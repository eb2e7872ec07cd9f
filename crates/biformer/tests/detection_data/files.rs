//! Small data sets on disk.

use std::fs;
use std::path::Path;

use biformer::data::RgbImage;
use biformer::data::detection::{DetectionFolder, DetectionSet};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// A picture of one colour.
pub fn write_image(path: &Path, [width, height]: [u32; 2]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, image::Rgb([90, 120, 150])).save(path).unwrap();
}

pub fn write_json(path: &Path, value: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

/// Two categories with a gap between their ids, and two pictures: one with a polygon, a crowd and a thing
/// without area, one of other shape with nothing.
pub fn instances() -> Value {
    json!({
        "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat", "supercategory": "pet"}],
        "images": [
            {"id": 11, "file_name": "b.png", "width": 40, "height": 60},
            {"id": 5, "file_name": "a.png", "width": 60, "height": 40},
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 7, "bbox": [10, 5, 20, 10], "area": 200,
             "iscrowd": 0, "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]]},
            {"id": 2, "image_id": 5, "category_id": 2, "bbox": [0, 20, 60, 20], "area": 1200,
             "iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [0, 2400]}},
            {"id": 3, "image_id": 5, "category_id": 2, "bbox": [3, 3, 0, 8], "area": 0,
             "iscrowd": 0, "segmentation": [[3, 3, 3, 11]]},
            {"id": 4, "image_id": 99, "category_id": 2, "bbox": [1, 1, 2, 2], "area": 4,
             "iscrowd": 0, "segmentation": []},
        ],
    })
}

/// [`instances`] as the part `val` in the layout of COCO, with its pictures.
pub fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write_json(&root.join("annotations/instances_val2017.json"), &instances());
    write_image(&root.join("val2017/a.png"), [60, 40]);
    write_image(&root.join("val2017/b.png"), [40, 60]);
    folder
}

pub fn open(root: &Path, split: &str) -> Result<DetectionFolder, String> {
    let set = DetectionSet::find(root, None);
    set.and_then(|set| DetectionFolder::open(root, &set, split)).map_err(|e| e.to_string())
}
