//! What evaluation found, as a table for spreadsheets and scripts.

use std::path::Path;

use super::PixelConfusion;
use crate::Result;
use crate::files::write_csv;

/// Writes a CSV with the scores of each class; cells of scores that are 0 / 0 are empty.
pub fn write_per_class_csv(
    path: &Path,
    confusion: &PixelConfusion,
    names: &[String],
) -> Result<()> {
    let score = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.4}") };
    write_csv(path, |csv| {
        csv.write_record(["index", "class", "pixels", "predicted", "iou", "accuracy"])?;
        for (index, (class, name)) in confusion.per_class().iter().zip(names).enumerate() {
            csv.write_record(&[
                index.to_string(),
                name.clone(),
                class.truth.to_string(),
                class.predicted.to_string(),
                score(class.iou()),
                score(class.accuracy()),
            ])?;
        }
        Ok(())
    })
}
