//! What `biformer eval` says about single classes: a table, and files.

use std::path::Path;

use biformer::classification::{
    ClassScores, ConfusionMatrix, ConfusionTable, macro_f1, mean_per_class_accuracy,
    write_per_class_csv,
};
use biformer::visualize::{Confusions, draw_confusions, write_png};

use super::print;

/// Up to here, all classes are shown unasked.
pub const FEW: usize = 20;
/// Of more, those with the lowest F1.
pub const WORST: usize = 10;
/// Longest name in the table.
const NAME: usize = 40;

/// A line for each class as in scikit-learn's report: all, or the worst of many.
pub fn print_table(
    confusion: &ConfusionMatrix,
    names: &[String],
    show_all: bool,
) -> std::io::Result<()> {
    let mut scores = confusion.per_class();
    let mean = mean(&scores);
    let total = scores.len();
    let images: usize = scores.iter().map(|class| class.images).sum();
    let is_cut = total > FEW && !show_all;
    if is_cut {
        scores.sort_by(|a, b| a.f1().total_cmp(&b.f1())); // stable: equal ones by class
        scores.truncate(WORST);
    }
    let shown = |class: &ClassScores| shorten(&names[class.class]);
    let width = scores.iter().map(|class| shown(class).chars().count()).max().unwrap_or(0).max(12);
    let line = |name: &str, images: usize, [precision, recall, f1]: [f64; 3]| {
        format!("{name:<width$}  {images:>7}  {precision:>9.4}  {recall:>6.4}  {f1:>6.4}")
    };
    print(format_args!("{:<width$}   images  precision  recall      f1", "class"))?;
    for class in &scores {
        let row = [class.precision(), class.recall(), class.f1()];
        print(line(&shown(class), class.images, row))?;
    }
    if is_cut {
        let left_out = total - WORST;
        print(format_args!("… {left_out} classes with a higher f1: see them with --per-class"))?;
    }
    print(line("mean", images, mean))?;
    print("")
}

/// Mean precision, recall and F1 over the classes.
fn mean(scores: &[ClassScores]) -> [f64; 3] {
    let count = scores.len().max(1) as f64;
    let precision = scores.iter().map(ClassScores::precision).sum::<f64>() / count;
    [precision, mean_per_class_accuracy(scores), macro_f1(scores)]
}

/// A name that fits into the table.
pub fn shorten(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let beginning: String = name.chars().take(NAME - 1).collect();
    format!("{}…", beginning.trim_end())
}

/// Writes the confusion matrix as pictures and CSV, and the scores of each class.
pub fn write_files(
    folder: &Path,
    confusion: &ConfusionMatrix,
    names: &[String],
) -> Result<(), biformer::Error> {
    let table = ConfusionTable::new(confusion, names);
    let ConfusionTable { rows, columns, counts } = &table;
    // Names of ultralytics.
    let pictures = [("confusion_matrix.png", false), ("confusion_matrix_normalized.png", true)];
    for (name, normalized) in pictures {
        if rows.is_empty() {
            break; // no picture could be read
        }
        let picture = draw_confusions(&Confusions { rows, columns, counts, normalized });
        write_png(&folder.join(name), &picture)?;
    }
    table.write_csv(&folder.join("confusion_matrix.csv"))?;
    write_per_class_csv(&folder.join("per_class.csv"), confusion, names)
}
