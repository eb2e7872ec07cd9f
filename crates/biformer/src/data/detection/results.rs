//! Detections as COCO's tools read them: one JSON list for all pictures.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rle::Rle;
use crate::files::write_atomically;
use crate::{Error, Result};

/// A thing that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CocoResult {
    /// The picture, by its number in the file of the annotations.
    pub image_id: u64,
    /// Its class, by its number in that file.
    pub category_id: u64,
    /// Left, top, width and height in pixels.
    pub bbox: [f64; 4],
    /// From 0 to 1.
    pub score: f64,
    /// Its pixels, from detectors that say where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<Rle>,
}

/// Writes a list of detections, whole or not at all.
pub fn write_results(path: &Path, results: &[CocoResult]) -> Result<()> {
    write_atomically(path, |file| Ok(serde_json::to_writer(file, results)?))
}

/// Reads a list of detections.
///
/// # Errors
/// [`Error::Io`], or [`Error::Dataset`] with line and column of what is no detection.
pub fn read_results(path: &Path) -> Result<Vec<CocoResult>> {
    let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
    serde_json::from_reader(BufReader::new(file))
        .map_err(|error| Error::dataset(path, format!("is no list of detections: {error}")))
}
