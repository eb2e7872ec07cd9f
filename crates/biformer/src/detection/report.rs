//! What evaluation found, as a table for spreadsheets and scripts.

use std::path::Path;

use super::coco_scores::{ClassScores, CocoScores};
use crate::Result;
use crate::files::write_csv;

/// Writes a CSV with the scores of each class, those of masks behind those of boxes; cells of classes
/// without a truth are empty.
///
/// # Panics
/// If there are not as many names as classes.
pub fn write_per_class_csv(
    path: &Path,
    names: &[String],
    bbox: &CocoScores,
    segm: Option<&CocoScores>,
) -> Result<()> {
    assert_eq!(names.len(), bbox.classes.len(), "expected a name for each class");
    let parts = [("box", Some(bbox)), ("mask", segm)];
    let parts = parts.into_iter().filter_map(|(part, scores)| Some((part, scores?)));
    let parts: Vec<_> = parts.collect();
    write_csv(path, |csv| {
        let columns = parts.iter().flat_map(|(part, _)| {
            ["ap", "ap50", "ap75", "ar100"].map(|score| format!("{part}_{score}"))
        });
        let first = ["index", "class", "truths", "detections"].map(ToOwned::to_owned);
        csv.write_record(first.into_iter().chain(columns))?;
        for (index, (name, class)) in names.iter().zip(&bbox.classes).enumerate() {
            let counts = [class.truths.to_string(), class.detections.to_string()];
            let scores = parts.iter().flat_map(|(_, scores)| cells(&scores.classes[index]));
            csv.write_record(
                [index.to_string(), name.clone()].into_iter().chain(counts).chain(scores),
            )?;
        }
        Ok(())
    })
}

fn cells(class: &ClassScores) -> [String; 4] {
    [class.ap(), class.ap50(), class.ap75(), class.ar100()]
        .map(|score| if score.is_nan() { String::new() } else { format!("{score:.4}") })
}
