//! Learning rate over time, as timm and mmcv compute it.

use std::f64::consts::PI;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// timm's `CosineLRScheduler`: linear warm-up, then a half cosine, then the minimum.
///
/// The unit of time is the epoch; fractions of an epoch are allowed (timm's
/// `--sched-on-updates`). The cosine starts at time 0, so that warm-up cuts its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CosineSchedule {
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Learning rate at the start of warm-up.
    pub warmup_lr: f64,
    /// Length of the linear warm-up.
    pub warmup_epochs: f64,
    /// Length of the cosine.
    pub epochs: f64,
}

impl CosineSchedule {
    /// The learning rate at time `t`.
    pub fn lr_at(&self, t: f64) -> f64 {
        if t < self.warmup_epochs {
            self.warmup_lr + t * (self.lr - self.warmup_lr) / self.warmup_epochs
        } else if t < self.epochs {
            let cosine = (PI * t / self.epochs).cos();
            self.min_lr + 0.5 * (self.lr - self.min_lr) * (1.0 + cosine)
        } else {
            self.min_lr
        }
    }
}

/// How the learning rate falls by iterations, mmcv's `lr_config.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrPolicy {
    /// A power of the share that is left (`PolyLrUpdaterHook`).
    Poly,
    /// Half a cosine (`CosineAnnealingLrUpdaterHook`).
    Cosine,
}

impl FromStr for LrPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "poly" => Ok(Self::Poly),
            "cosine" => Ok(Self::Cosine),
            _ => {
                let reason = format!("must be `poly` or `cosine`, got `{text}`");
                Err(Error::option("lr_policy", reason))
            }
        }
    }
}

/// mmcv's schedules by iteration, with linear warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterSchedule {
    /// How the rate falls.
    pub policy: LrPolicy,
    /// Learning rate at the start, warm-up aside.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Exponent of [`LrPolicy::Poly`]; 1 is a straight line.
    pub power: f64,
    /// Length of the schedule.
    pub max_iters: f64,
    /// Length of the linear warm-up.
    pub warmup_iters: f64,
    /// Share of the regular rate at iteration 0.
    pub warmup_ratio: f64,
}

impl IterSchedule {
    /// The learning rate of iteration `t`.
    pub fn lr_at(&self, t: f64) -> f64 {
        let done = (t / self.max_iters).min(1.0);
        let share = match self.policy {
            LrPolicy::Poly => (1.0 - done).powf(self.power),
            LrPolicy::Cosine => 0.5 * (1.0 + (PI * done).cos()),
        };
        let regular = (self.lr - self.min_lr) * share + self.min_lr;
        warmed_up(regular, t / self.warmup_iters, self.warmup_ratio)
    }
}

/// mmcv's `StepLrUpdaterHook` with linear warm-up: a tenth of the rate after each of some epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSchedule {
    /// Learning rate at the start, warm-up aside.
    pub lr: f64,
    /// Epochs after which it falls.
    pub steps: Vec<usize>,
    /// Length of the linear warm-up, in iterations.
    pub warmup_iters: f64,
    /// Share of the regular rate at iteration 0.
    pub warmup_ratio: f64,
}

impl StepSchedule {
    /// The learning rate of `epoch`, counted from 0, and of iteration `t` since the start of the run.
    pub fn lr_at(&self, epoch: usize, t: f64) -> f64 {
        let falls = self.steps.iter().filter(|&&step| epoch >= step).count();
        let regular = self.lr * GAMMA.powi(falls as i32);
        warmed_up(regular, t / self.warmup_iters, self.warmup_ratio)
    }
}

/// What the learning rate falls to at a step, mmcv's default.
const GAMMA: f64 = 0.1;

/// mmcv's linear warm-up, of which the share `done` is over: from `ratio` to all of the regular rate.
fn warmed_up(regular: f64, done: f64, ratio: f64) -> f64 {
    match done < 1.0 {
        true => regular * (1.0 - (1.0 - done) * (1.0 - ratio)),
        false => regular, // also without any: 0 / 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ends and the middle, by hand; `train_schedules` has mmcv's own numbers of the other policy.
    #[test]
    fn the_cosine_begins_at_the_rate_and_ends_at_its_least() {
        let schedule = IterSchedule {
            policy: LrPolicy::Cosine,
            lr: 2e-4,
            min_lr: 2e-12,
            power: 1.0,
            max_iters: 80_000.0,
            warmup_iters: 1000.0,
            warmup_ratio: 0.1,
        };
        for (t, expected) in [(0.0, 2e-5), (40_000.0, 1e-4 + 1e-12), (80_000.0, 2e-12)] {
            let found = schedule.lr_at(t);
            assert!((found - expected).abs() < 1e-9 * 2e-4, "{found} at {t}, expected {expected}");
        }
    }

    /// The schedule of the official detectors, 7330 steps an epoch: by hand from mmcv's formulas.
    #[test]
    fn the_rate_falls_after_epochs() {
        let schedule =
            StepSchedule { lr: 1e-4, steps: vec![8, 11], warmup_iters: 500.0, warmup_ratio: 1e-3 };
        let cases = [
            (0, 0.0, 1e-7),
            (0, 250.0, 0.5005e-4),
            (0, 500.0, 1e-4),
            (7, 58_639.0, 1e-4),
            (8, 58_640.0, 1e-5),
            (11, 80_630.0, 1e-6),
        ];
        for (epoch, t, expected) in cases {
            let found = schedule.lr_at(epoch, t);
            assert!((found - expected).abs() < 1e-12, "{found} at {t}, expected {expected}");
        }
        let at_once = StepSchedule { warmup_iters: 0.0, ..schedule };
        assert_eq!(at_once.lr_at(0, 0.0), 1e-4);
    }
}
