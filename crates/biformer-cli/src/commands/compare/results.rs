//! `results.csv`, from which a comparison goes on, and the table and the chart made of it.

use std::path::{Path, PathBuf};

use biformer::data::RgbImage;
use biformer::visualize::{ScatterChart, ScatterPoint, draw_scatter_charts};
use biformer::{Error, Result};
use serde::{Deserialize, Serialize};

use super::super::write_csv;
use super::speed::Speed;

/// What came of one recipe with one seed. A line of the file is the run and its speed, side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub recipe: String,
    pub model: String,
    pub seed: u64,
    pub img_size: usize,
    pub epochs: usize,
    /// After the last epoch.
    pub val_top1: f64,
    pub val_top5: f64,
    /// Of the best epoch.
    pub best_val_top1: f64,
    pub seconds: f64,
    /// Seeds do not change it.
    #[serde(skip)]
    pub speed: Speed,
}

/// A recipe over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Entry {
    pub recipe: String,
    pub runs: usize,
    /// Mean after the last epoch.
    pub val_top1: f64,
    /// Standard deviation of the sample; none of a single run.
    pub val_top1_std: Option<f64>,
    #[serde(flatten)]
    pub speed: Speed,
}

/// The runs that are done.
pub(super) struct Results {
    file: PathBuf,
    runs: Vec<Run>,
}

impl Results {
    /// Those of an earlier call, if the file is there.
    pub fn open(file: &Path) -> Result<Self> {
        let mut results = Self { file: file.to_owned(), runs: Vec::new() };
        if file.exists() {
            results.read().map_err(|error| Error::dataset(file, error))?;
        }
        Ok(results)
    }

    /// Each part of a line takes the columns that it knows.
    fn read(&mut self) -> Result<(), csv::Error> {
        let mut lines = csv::Reader::from_path(&self.file)?;
        let columns = lines.headers()?.clone();
        for line in lines.records() {
            let line = line?;
            let run: Run = line.deserialize(Some(&columns))?;
            self.runs.push(Run { speed: line.deserialize(Some(&columns))?, ..run });
        }
        Ok(())
    }

    pub fn has(&self, recipe: &str, seed: u64) -> bool {
        self.runs.iter().any(|run| run.recipe == recipe && run.seed == seed)
    }

    pub fn speed_of(&self, recipe: &str) -> Option<Speed> {
        self.runs.iter().find(|run| run.recipe == recipe).map(|run| run.speed)
    }

    pub fn add(&mut self, run: Run) -> Result<()> {
        self.runs.push(run);
        let lines: Vec<_> = self.runs.iter().map(|run| (run, run.speed)).collect();
        write_csv(&self.file, &lines)
    }

    /// The recipes over these seeds, the most accurate first.
    pub fn table(&self, recipes: &[&str], seeds: &[u64]) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            recipes.iter().filter_map(|recipe| self.entry(recipe, seeds)).collect();
        entries.sort_by(|a, b| b.val_top1.total_cmp(&a.val_top1));
        entries
    }

    fn entry(&self, recipe: &str, seeds: &[u64]) -> Option<Entry> {
        let runs = self.runs.iter().filter(|run| run.recipe == recipe);
        let scores: Vec<f64> =
            runs.filter(|run| seeds.contains(&run.seed)).map(|run| run.val_top1).collect();
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        Some(Entry {
            recipe: recipe.to_owned(),
            runs: scores.len(),
            val_top1: mean,
            val_top1_std: (scores.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
            speed: self.speed_of(recipe)?,
        })
    }
}

/// The table for a person.
pub(super) fn show(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.recipe.chars().count()).max().unwrap_or(0).max(6);
    let head = format!(
        "{:<width$}  {:<12} {:>4} {:>12} {:>9} {:>10} {:>9} {:>8} {:>7}",
        "recipe",
        "top-1 %",
        "runs",
        "train img/s",
        "img/s",
        "train MiB",
        "MiB",
        "params M",
        "GMACs",
    );
    let memory = |mb: Option<f64>| mb.map_or("-".to_owned(), |mb| format!("{mb:.0}"));
    let rows = entries.iter().map(|entry| {
        let Entry { recipe, runs, val_top1, val_top1_std, speed } = entry;
        let spread = val_top1_std.map_or(String::new(), |std| format!("± {:.1}", 100.0 * std));
        format!(
            "{recipe:<width$}  {:>5.1} {spread:<6} {runs:>4} {:>12.1} {:>9.1} {:>10} {:>9} {:>8.2} {:>7.3}",
            100.0 * val_top1,
            speed.train_images_per_second,
            speed.inference_images_per_second,
            memory(speed.train_peak_rss_mb),
            memory(speed.inference_peak_rss_mb),
            speed.param_count,
            speed.gmacs,
        )
    });
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

/// Accuracy over speed in inference, over speed in training, and over arithmetic.
pub(super) fn draw(entries: &[Entry]) -> RgbImage {
    let names = short_names(entries);
    let chart = |title: &str, x: &'static str, place: fn(&Speed) -> f64| ScatterChart {
        title: title.to_owned(),
        x,
        y: "top-1 %",
        points: entries
            .iter()
            .zip(&names)
            .map(|(entry, name)| ScatterPoint {
                name: name.clone(),
                x: place(&entry.speed),
                y: 100.0 * entry.val_top1,
                spread: 100.0 * entry.val_top1_std.unwrap_or(0.0),
            })
            .collect(),
    };
    draw_scatter_charts(&[
        chart("Inference", "images/s", |speed| speed.inference_images_per_second),
        chart("Training", "images/s", |speed| speed.train_images_per_second),
        chart("Arithmetic", "GMACs", |speed| speed.gmacs),
    ])
}

/// Names of recipes without the words that all of them end with.
fn short_names(entries: &[Entry]) -> Vec<String> {
    let split = |entry: &Entry| entry.recipe.split('_').map(str::to_owned).collect();
    let mut names: Vec<Vec<String>> = entries.iter().map(split).collect();
    while let [first, others @ ..] = &names[..]
        && !others.is_empty()
        && names.iter().all(|name| name.len() > 1 && name.last() == first.last())
    {
        names.iter_mut().for_each(|name| {
            name.pop();
        });
    }
    names.into_iter().map(|name| name.join("_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(recipe: &str, seed: u64, val_top1: f64) -> Run {
        Run { recipe: recipe.to_owned(), seed, val_top1, ..Run::default() }
    }

    #[test]
    fn names_in_charts_leave_out_what_all_end_with() {
        let names = |recipes: &[&str]| {
            let runs = recipes.iter().map(|recipe| run(recipe, 0, 0.5)).collect();
            let results = Results { file: PathBuf::new(), runs };
            short_names(&results.table(recipes, &[0]))
        };
        assert_eq!(
            names(&["stl_full_nano_in1k", "biformer_stl_nano_in1k"]),
            ["stl_full", "biformer_stl"]
        );
        assert_eq!(names(&["a_b", "b"]), ["a_b", "b"]);
        assert_eq!(names(&["alone_in1k"]), ["alone_in1k"]);
    }

    #[test]
    fn means_and_spreads_are_of_the_seeds_asked_for() {
        let runs = vec![run("a", 0, 0.5), run("a", 1, 0.7), run("a", 2, 0.9), run("b", 0, 0.625)];
        let results = Results { file: PathBuf::new(), runs };
        let table = results.table(&["a", "b"], &[0, 1]);
        assert_eq!((table[0].recipe.as_str(), table[0].runs), ("b", 1));
        assert_eq!(table[0].val_top1_std, None);
        assert!((table[1].val_top1 - 0.6).abs() < 1e-12, "rounding");
        assert!((table[1].val_top1_std.expect("two runs") - 0.02f64.sqrt()).abs() < 1e-12);
    }
}
