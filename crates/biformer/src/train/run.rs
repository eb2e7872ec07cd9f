//! The folder of a run: recipe, metrics, weights.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Recipe;
use super::curves::draw_curves;
use crate::files::write_atomically;
use crate::visualize::write_png;
use crate::{Error, Result};

/// One line of `results.csv` and `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean over the epoch, with label smoothing.
    pub train_loss: f64,
    /// Accuracy on the augmented pictures of the epoch.
    pub train_top1: f64,
    /// Mean on the validation set, without label smoothing.
    pub val_loss: f64,
    /// Accuracy on the validation set.
    pub val_top1: f64,
    /// Share of validation pictures with their class among the five best.
    pub val_top5: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Training pictures a second, validation aside.
    pub images_per_second: f64,
    /// Time since the start of the run.
    pub seconds: f64,
    /// Unreadable pictures in training and validation.
    pub skipped: usize,
    /// Pictures that the validation saw.
    pub val_images: usize,
}

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

    /// Weights of the epoch with the best validation accuracy.
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
        write_atomically(&self.root.join("results.csv"), |file| {
            writeln!(
                file,
                "epoch,train_loss,train_top1,val_loss,val_top1,val_top5,lr,images_per_second,\
                 seconds,skipped,val_images"
            )?;
            for m in metrics {
                writeln!(
                    file,
                    "{},{:.5},{:.4},{:.5},{:.4},{:.4},{:.3e},{:.1},{:.1},{},{}",
                    m.epoch,
                    m.train_loss,
                    m.train_top1,
                    m.val_loss,
                    m.val_top1,
                    m.val_top5,
                    m.lr,
                    m.images_per_second,
                    m.seconds,
                    m.skipped,
                    m.val_images
                )?;
            }
            Ok(())
        })?;
        if metrics.is_empty() {
            return Ok(());
        }
        write_png(&self.root.join("results.png"), &draw_curves(metrics))
    }
}
