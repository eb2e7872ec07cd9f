//! Label maps of no annotator, for tests that train.

use std::path::{Path, PathBuf};

use biformer::data::{ImageFolder, LabelMap, LabelMaps, LabelMapsInfo};

/// Writes a map of each training picture of a data set; each cell sees another class.
pub fn write(data: &Path, grid: [usize; 2]) -> PathBuf {
    let (root, train) = (data.join("../maps"), data.join("train"));
    let ImageFolder { classes, samples } = ImageFolder::open(&train).expect("pictures");
    let num_classes = classes.len();
    let info = LabelMapsInfo { annotator: "a pattern".to_owned(), grid, classes };
    let maps = LabelMaps::create(&root, &train, info).expect("a new folder");
    for (number, (picture, class)) in samples.iter().enumerate() {
        let logit = |i: usize| match i % num_classes == *class {
            true => 3.0,
            false => ((i * 7 + number) % 5) as f32,
        };
        let logits: Vec<f32> = (0..grid[0] * grid[1] * num_classes).map(logit).collect();
        maps.write(picture.path(), &LabelMap::from_logits(&logits, grid)).expect("a map");
    }
    root
}
