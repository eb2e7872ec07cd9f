//! A training recipe: everything a run depends on beside the pictures.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{AdamWOptions, CosineSchedule};
use crate::files::write_atomically;
use crate::models::BiFormerConfig;
use crate::{Error, Result};

/// A recipe, written as TOML with timm's names. Missing keys take the defaults, which train
/// `biformer_nano` on small pictures; unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// One of [`MODEL_NAMES`](crate::models::MODEL_NAMES).
    pub model: String,
    /// Data set in ImageFolder layout with `train` and `val`; usually given on the command line.
    pub data: Option<PathBuf>,
    /// Checkpoint to start from; its head is replaced if the classes differ in number.
    pub initial_checkpoint: Option<PathBuf>,
    /// Side of the square pictures that the model sees.
    pub img_size: usize,
    /// Share of the shorter side that evaluation keeps.
    pub crop_pct: f64,
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Pictures in a step.
    pub batch_size: usize,
    /// Seed of weights, order of pictures, augmentation and stochastic depth.
    pub seed: u64,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Learning rate at the start of warm-up.
    pub warmup_lr: f64,
    /// Length of the linear warm-up.
    pub warmup_epochs: f64,
    /// Whether the learning rate changes with every step, not only with every epoch.
    pub sched_on_updates: bool,
    /// Decoupled weight decay of tensors of two and more axes.
    pub weight_decay: f64,
    /// Decays of the moments of AdamW.
    #[serde(deserialize_with = "pair")]
    pub opt_betas: [f64; 2],
    /// Added to the root of the second moment of AdamW.
    pub opt_eps: f64,
    /// Stochastic depth of the last block.
    pub drop_path: f64,
    /// Label smoothing.
    pub smoothing: f64,
    /// Share of the area that random crops keep.
    #[serde(deserialize_with = "pair")]
    pub scale: [f64; 2],
    /// Aspect ratio of random crops.
    #[serde(deserialize_with = "pair")]
    pub ratio: [f64; 2],
    /// Probability of a horizontal flip.
    pub hflip: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: "biformer_nano".to_owned(),
            data: None,
            initial_checkpoint: None,
            img_size: 64,
            crop_pct: 1.0,
            epochs: 15,
            batch_size: 64,
            seed: 0,
            lr: 2e-3,
            min_lr: 1e-5,
            warmup_lr: 1e-5,
            warmup_epochs: 1.0,
            sched_on_updates: true,
            weight_decay: 0.05,
            opt_betas: [0.9, 0.999],
            opt_eps: 1e-8,
            drop_path: 0.0,
            smoothing: 0.1,
            scale: [0.35, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            hflip: 0.5,
        }
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// [`Error::Recipe`] with line and key of what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
        let recipe = Self::parse(&text).map_err(|reason| Error::recipe(path, reason))?;
        match recipe.check() {
            Ok(()) => Ok(recipe),
            Err(Error::Option { option, reason }) => {
                let place = line_of(&text, option).map(|line| format!("line {line}, "));
                let place = place.unwrap_or_default();
                Err(Error::recipe(path, format!("{place}`{option}`: {reason}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Parses TOML without checking ranges.
    ///
    /// # Errors
    /// Line and key of what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// Writes the recipe with every value.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).expect("a recipe is TOML");
        write_atomically(path, |file| std::io::Write::write_all(file, text.as_bytes()))
    }

    /// Checks all ranges.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first value out of its range.
    pub fn check(&self) -> Result<()> {
        BiFormerConfig::from_name(&self.model)?;
        let rule = |option, holds: bool, rule: &str| match holds {
            true => Ok(()),
            false => Err(Error::option(option, format!("{rule}{}", self.found(option)))),
        };
        let unit = 0.0..=1.0;
        rule("img_size", (32..=2048).contains(&self.img_size), "must be from 32 to 2048 pixels")?;
        rule("crop_pct", self.crop_pct > 0.0 && self.crop_pct <= 1.0, "must be in (0, 1]")?;
        rule("epochs", (1..=100_000).contains(&self.epochs), "must be from 1 to 100000")?;
        rule("batch_size", (1..=65_536).contains(&self.batch_size), "must be from 1 to 65536")?;
        rule("seed", self.seed <= i64::MAX as u64, "must be below 2^63, as TOML has it")?;
        rule("lr", self.lr > 0.0 && self.lr <= 100.0, "must be in (0, 100]")?;
        rule("min_lr", (0.0..=self.lr).contains(&self.min_lr), "must be from 0 to lr")?;
        rule("warmup_lr", (0.0..=self.lr).contains(&self.warmup_lr), "must be from 0 to lr")?;
        let epochs = 0.0..=self.epochs as f64;
        rule("warmup_epochs", epochs.contains(&self.warmup_epochs), "must be from 0 to epochs")?;
        rule("weight_decay", (0.0..=10.0).contains(&self.weight_decay), "must be from 0 to 10")?;
        let betas = self.opt_betas.iter().all(|beta| (0.0..1.0).contains(beta));
        rule("opt_betas", betas, "must be two numbers in [0, 1)")?;
        rule("opt_eps", self.opt_eps > 0.0 && self.opt_eps < 1.0, "must be in (0, 1)")?;
        rule("drop_path", (0.0..1.0).contains(&self.drop_path), "must be in [0, 1)")?;
        rule("smoothing", (0.0..1.0).contains(&self.smoothing), "must be in [0, 1)")?;
        let [low, high] = self.scale;
        rule("scale", 0.0 < low && low <= high && high <= 1.0, "must be 0 < low <= high <= 1")?;
        let [low, high] = self.ratio;
        rule("ratio", 0.0 < low && low <= high && high <= 100.0, "must be 0 < low <= high <= 100")?;
        rule("hflip", unit.contains(&self.hflip), "must be from 0 to 1")
    }

    /// The value of a key, for messages.
    fn found(&self, key: &str) -> String {
        let table = toml::Table::try_from(self).unwrap_or_default(); // a seed may be too large
        table.get(key).map(|value| format!(", got {value}")).unwrap_or_default()
    }

    /// The learning rate of a step, of `steps` in the epoch; steps and epochs count from 0.
    pub fn lr_at(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        let t = match self.sched_on_updates {
            true => epoch as f64 + step as f64 / steps as f64,
            false => epoch as f64,
        };
        self.schedule().lr_at(t)
    }

    /// The schedule in epochs.
    pub fn schedule(&self) -> CosineSchedule {
        CosineSchedule {
            lr: self.lr,
            min_lr: self.min_lr,
            warmup_lr: self.warmup_lr,
            warmup_epochs: self.warmup_epochs,
            epochs: self.epochs as f64,
        }
    }

    /// The options of the optimizer.
    pub fn optimizer(&self) -> AdamWOptions {
        AdamWOptions { betas: self.opt_betas, eps: self.opt_eps, weight_decay: self.weight_decay }
    }
}

/// Two numbers; of an array, serde would drop the third.
fn pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    let numbers = Vec::deserialize(deserializer)?;
    let length = numbers.len();
    numbers.try_into().map_err(|_: Vec<f64>| D::Error::invalid_length(length, &"two numbers"))
}

/// The line, from 1, that sets `key`.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let sets_key = |line: &str| line.split('=').next().is_some_and(|left| left.trim() == key);
    text.lines().position(sets_key).map(|index| index + 1)
}
