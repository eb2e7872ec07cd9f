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
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "classify" => Ok(Self::Classify),
            "segment" => Ok(Self::Segment),
            _ => {
                let reason = format!("must be `classify` or `segment`, got `{text}`");
                Err(Error::option("task", reason))
            }
        }
    }
}

impl Task {
    /// The keys of a recipe that say nothing to this task.
    pub(super) fn foreign_keys(self) -> &'static [&'static str] {
        match self {
            Self::Classify => &OF_SEGMENTATION,
            Self::Segment => &OF_CLASSIFICATION,
        }
    }
}

const OF_CLASSIFICATION: [&str; 28] = [
    "img_size",
    "crop_pct",
    "epochs",
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
];

/// `task` among them: recipes without it are older than segmentation.
const OF_SEGMENTATION: [&str; 19] = [
    "task",
    "dataset",
    "method",
    "neck_channels",
    "head_channels",
    "aux_channels",
    "class_weight",
    "crop_size",
    "img_scale",
    "ratio_range",
    "cat_max_ratio",
    "photo_metric_distortion",
    "size_divisor",
    "max_iters",
    "val_interval",
    "lr_policy",
    "power",
    "warmup_iters",
    "warmup_ratio",
];
