//! Learning rate over time, as timm and mmcv compute it.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

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

/// mmcv's `PolyLrUpdaterHook` with linear warm-up, by iteration (UperNet's schedule).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolySchedule {
    /// Learning rate at the start, warm-up aside.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Exponent; 1 is a straight line.
    pub power: f64,
    /// Length of the schedule.
    pub max_iters: f64,
    /// Length of the linear warm-up.
    pub warmup_iters: f64,
    /// Share of the regular rate at iteration 0.
    pub warmup_ratio: f64,
}

impl PolySchedule {
    /// The learning rate of iteration `t`.
    pub fn lr_at(&self, t: f64) -> f64 {
        let progress = (1.0 - t / self.max_iters).max(0.0);
        let regular = (self.lr - self.min_lr) * progress.powf(self.power) + self.min_lr;
        if t < self.warmup_iters {
            regular * (1.0 - (1.0 - t / self.warmup_iters) * (1.0 - self.warmup_ratio))
        } else {
            regular
        }
    }
}
