//! What evaluation found, as tables for spreadsheets and scripts.

use std::collections::BTreeMap;
use std::path::Path;

use super::ConfusionMatrix;
use crate::Result;
use crate::files::write_csv;

/// A confusion matrix with names, of the classes that occur as truth or as prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfusionTable {
    /// Names of the true classes, one a row.
    pub rows: Vec<String>,
    /// Names of the predicted classes, the same; one more, `(none)`, if there was no answer for
    /// some picture.
    pub columns: Vec<String>,
    /// Pictures by row and column; cells that are not named hold none.
    pub counts: BTreeMap<(usize, usize), usize>,
}

impl ConfusionTable {
    /// `names` are those of all classes of the model.
    pub fn new(confusion: &ConfusionMatrix, names: &[String]) -> Self {
        let classes: Vec<usize> = confusion.per_class().iter().map(|scores| scores.class).collect();
        let rows: Vec<String> = classes.iter().map(|&class| names[class].clone()).collect();
        let mut columns = rows.clone();
        if confusion.counts().any(|(_, prediction, _)| prediction.is_none()) {
            columns.push("(none)".to_owned());
        }
        let place = |class: usize| classes.partition_point(|&before| before < class);
        let counts = confusion.counts().map(|(truth, prediction, count)| {
            ((place(truth), prediction.map_or(rows.len(), place)), count)
        });
        Self { counts: counts.collect(), rows, columns }
    }

    /// Writes a CSV with a row for each true and a column for each predicted class.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        write_csv(path, |csv| {
            csv.write_field("true")?;
            csv.write_record(&self.columns)?;
            for (row, name) in self.rows.iter().enumerate() {
                csv.write_field(name)?;
                let count = |column| self.counts.get(&(row, column)).copied().unwrap_or_default();
                csv.write_record((0..self.columns.len()).map(|column| count(column).to_string()))?;
            }
            Ok(())
        })
    }
}

/// Writes a CSV with the scores of each class that occurs.
pub fn write_per_class_csv(
    path: &Path,
    confusion: &ConfusionMatrix,
    names: &[String],
) -> Result<()> {
    write_csv(path, |csv| {
        csv.write_record(["index", "class", "images", "predicted", "precision", "recall", "f1"])?;
        for scores in confusion.per_class() {
            csv.write_record(&[
                scores.class.to_string(),
                names[scores.class].clone(),
                scores.images.to_string(),
                scores.predicted.to_string(),
                format!("{:.4}", scores.precision()),
                format!("{:.4}", scores.recall()),
                format!("{:.4}", scores.f1()),
            ])?;
        }
        Ok(())
    })
}
