//! What a run can learn, and which keys of a recipe belong to which.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is learnt, under ultralytics' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// The class of a picture.
    Classify,
    /// The class of each pixel.
    Segment,
    /// Boxes around things, and their classes.
    Detect,
    /// The same with masks.
    Instance,
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "classify" => Ok(Self::Classify),
            "segment" => Ok(Self::Segment),
            "detect" => Ok(Self::Detect),
            "instance" => Ok(Self::Instance),
            _ => {
                let names = "`classify`, `segment`, `detect` or `instance`";
                let reason = format!("must be {names}, got `{text}`");
                Err(Error::option("task", reason))
            }
        }
    }
}

impl Task {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Segment => "segment",
            Self::Detect => "detect",
            Self::Instance => "instance",
        }
    }

    /// What it is called in messages.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Classify => "classification",
            Self::Segment => "segmentation",
            Self::Detect => "detection",
            Self::Instance => "instance segmentation",
        }
    }

    /// Whether a share of what a training step saw is right or wrong.
    pub(super) fn has_accuracy(self) -> bool {
        !self.detects()
    }

    /// Whether things are found, with masks or without.
    pub(super) fn detects(self) -> bool {
        matches!(self, Self::Detect | Self::Instance)
    }

    /// The keys of a recipe that say nothing to this task, with the tasks that they do say something to.
    pub(super) fn foreign_keys(self) -> impl Iterator<Item = (&'static str, &'static [Self])> {
        KEYS.iter().flat_map(move |&(tasks, keys)| {
            let keys: &[_] = if tasks.contains(&self) { &[] } else { keys };
            keys.iter().map(move |&key| (key, tasks))
        })
    }
}

/// Keys that not all tasks have. `task` is among them, since recipes without it are older than segmentation.
const KEYS: [(&[Task], &[&str]); 6] = [
    (
        &[Task::Classify],
        &[
            "img_size",
            "crop_pct",
            "cooldown_epochs",
            "warmup_lr",
            "warmup_epochs",
            "sched_on_updates",
            "smoothing",
            "scale",
            "ratio",
            "aa",
            "color_jitter",
            "reprob",
            "remode",
            "recount",
            "aug_repeats",
            "mixup",
            "cutmix",
            "mixup_prob",
            "mixup_switch_prob",
            "mixup_mode",
            "mixup_off_epoch",
            "class_blocks",
            "token_label",
            "token_label_data",
            "dense_weight",
            "cls_weight",
            "mix_token",
        ],
    ),
    (&[Task::Classify, Task::Detect, Task::Instance], &["epochs"]),
    (&[Task::Classify, Task::Segment], &["min_lr"]),
    (
        &[Task::Segment],
        &[
            "aux_channels",
            "class_weight",
            "crop_size",
            "ratio_range",
            "cat_max_ratio",
            "photo_metric_distortion",
            "max_iters",
            "val_interval",
            "lr_policy",
            "power",
        ],
    ),
    (
        &[Task::Segment, Task::Detect, Task::Instance],
        &[
            "task",
            "dataset",
            "method",
            "neck_channels",
            "head_channels",
            "img_scale",
            "size_divisor",
            "warmup_iters",
            "warmup_ratio",
        ],
    ),
    (&[Task::Detect, Task::Instance], &["lr_steps", "multi_scale", "stacked_convs", "norm_eval"]),
];
