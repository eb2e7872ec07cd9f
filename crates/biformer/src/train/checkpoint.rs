//! Where a run stands, in one file: weights, optimizer, progress.
//!
//! One file because it is renamed into place whole: a run that is killed at any moment finds
//! weights and optimizer of the same step.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::weights::{StateDict, read_metadata, read_state_dict, write_safetensors};
use crate::{Error, Result};

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are complete.
    pub epoch: usize,
    /// Steps of the current epoch that are complete.
    pub step: usize,
    /// Sum of the losses of the current epoch, weighted by pictures.
    pub loss_sum: f64,
    /// Pictures of the current epoch.
    pub images: usize,
    /// Those that were right; of segmentation, the sum of the shares of their pixels.
    pub hits: f64,
    /// Unreadable pictures in the current epoch.
    pub skipped: usize,
    /// Steps of the optimizer since the start of the run.
    pub updates: usize,
    /// Best [score](super::EpochMetrics::score) so far, if there was a validation.
    pub best_score: Option<f64>,
    /// Time spent before, in seconds.
    pub seconds: f64,
}

/// The state of a run.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// How far the run has come.
    pub progress: Progress,
    /// Weights and running statistics by official key.
    pub model: StateDict,
    /// The average of the weights, likewise; empty if none is kept.
    pub ema: StateDict,
    /// Moments of the optimizer.
    pub optimizer: StateDict,
}

const MODEL: &str = "model.";
const EMA: &str = "model_ema.";
const OPTIMIZER: &str = "optimizer.";
const PROGRESS: &str = "progress";

impl Progress {
    /// Mean loss over the epoch so far.
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.images.max(1) as f64
    }

    /// Share of pictures, or of their pixels, that were right in the epoch so far.
    pub fn accuracy(&self) -> f64 {
        self.hits / self.images.max(1) as f64
    }
}

impl Checkpoint {
    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let prefixed = |prefix: &str, dict: &StateDict| -> StateDict {
            dict.iter().map(|(key, tensor)| (format!("{prefix}{key}"), tensor.clone())).collect()
        };
        let mut tensors = prefixed(MODEL, &self.model);
        tensors.append(&mut prefixed(EMA, &self.ema));
        tensors.append(&mut prefixed(OPTIMIZER, &self.optimizer));
        let progress = serde_json::to_string(&self.progress).expect("progress is JSON");
        write_safetensors(path, &tensors, &BTreeMap::from([(PROGRESS.to_owned(), progress)]))
    }

    /// Reads what [`Checkpoint::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let metadata = read_metadata(path)?;
        let progress = metadata
            .get(PROGRESS)
            .ok_or_else(|| Error::checkpoint(path, "is no state of a training run"))?;
        let progress = serde_json::from_str(progress)
            .map_err(|error| Error::checkpoint(path, format!("metadata `progress`: {error}")))?;
        let mut parts = [MODEL, EMA, OPTIMIZER].map(|prefix| (prefix, StateDict::new()));
        for (key, tensor) in read_state_dict(path)? {
            let place = parts
                .iter_mut()
                .find_map(|(prefix, part)| Some((key.strip_prefix(*prefix)?, part)));
            match place {
                Some((key, part)) => part.insert(key.to_owned(), tensor),
                None => {
                    return Err(Error::checkpoint(
                        path,
                        format!("holds an unexpected key `{key}`"),
                    ));
                }
            };
        }
        let [(_, model), (_, ema), (_, optimizer)] = parts;
        Ok(Self { progress, model, ema, optimizer })
    }
}
