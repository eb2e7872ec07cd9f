//! The folder of a run: recipe, metrics, weights.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::curves::draw_curves;
use super::{EpochMetrics, Recipe};
use crate::files::{write_atomically, write_csv};
use crate::visualize::write_png;
use crate::{Error, Result};

/// The files of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The folder of a new run. [`train`](super::train) creates it once the run can start.
    ///
    /// # Errors
    /// [`Error::Option`] if the folder already holds a run.
    pub fn new(root: &Path) -> Result<Self> {
        let run = Self { root: root.to_owned() };
        if run.recipe().exists() {
            let reason = format!(
                "`{}` already holds a run; resume it or choose another folder",
                root.display()
            );
            return Err(Error::option("output", reason));
        }
        Ok(run)
    }

    /// Creates the folder with its recipe.
    pub(super) fn begin(&self, recipe: &Recipe) -> Result<()> {
        std::fs::create_dir_all(&self.root)
            .map_err(|source| Error::io("create the folder", &self.root, source))?;
        recipe.write(&self.recipe())
    }

    /// The folder of an earlier run and its recipe.
    pub fn open(root: &Path) -> Result<(Self, Recipe)> {
        let run = Self { root: root.to_owned() };
        if !run.recipe().is_file() {
            let reason = format!("`{}` holds no run (no recipe.toml)", root.display());
            return Err(Error::option("resume", reason));
        }
        let recipe = Recipe::read(&run.recipe())?;
        Ok((run, recipe))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved recipe.
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// State to resume from.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint.safetensors")
    }

    /// Weights after the last complete epoch.
    pub fn last(&self) -> PathBuf {
        self.root.join("last.safetensors")
    }

    /// Weights of the epoch with the best [score](EpochMetrics::score).
    pub fn best(&self) -> PathBuf {
        self.root.join("best.safetensors")
    }

    /// The metrics of the epochs up to `epoch`; those after it were never checkpointed.
    pub fn read_metrics(&self, epoch: usize) -> Result<Vec<EpochMetrics>> {
        let path = self.root.join("metrics.jsonl");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source))?;
        let mut metrics = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line: EpochMetrics = serde_json::from_str(line)
                .map_err(|e| Error::recipe(&path, format!("line {}: {e}", number + 1)))?;
            if line.epoch <= epoch {
                metrics.push(line);
            }
        }
        Ok(metrics)
    }

    /// Writes `metrics.jsonl`, `results.csv` and, once there is an epoch, `results.png`.
    pub fn write_metrics(&self, metrics: &[EpochMetrics]) -> Result<()> {
        write_atomically(&self.root.join("metrics.jsonl"), |file| {
            for line in metrics {
                writeln!(file, "{}", serde_json::to_string(line).expect("metrics are JSON"))?;
            }
            Ok(())
        })?;
        write_csv(&self.root.join("results.csv"), |csv| {
            let Some(first) = metrics.first() else { return Ok(()) };
            csv.write_record(first.columns().iter().map(|(name, _)| *name))?;
            metrics.iter().try_for_each(|epoch| {
                csv.write_record(epoch.columns().iter().map(|(_, value)| value))
            })
        })?;
        if metrics.is_empty() {
            return Ok(());
        }
        write_png(&self.root.join("results.png"), &draw_curves(metrics))
    }
}
