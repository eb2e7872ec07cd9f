//! The range of each value of a recipe.

use super::{Recipe, Task, recipe::STRIDE};
use crate::models::{BackboneConfig, BiFormerConfig};
use crate::segmentation::{MAX_WINDOW_PIXELS, SegmentorConfig};
use crate::{Error, Result};

impl Recipe {
    /// Checks all ranges.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first value out of its range, or of another task.
    pub fn check(&self) -> Result<()> {
        self.check_training()?;
        match self.task {
            Task::Classify => self.check_classification()?,
            Task::Segment => self.check_segmentation()?,
        }
        self.check_foreign_keys()
    }

    /// What all tasks have.
    fn check_training(&self) -> Result<()> {
        BackboneConfig::from_name(&self.model)?;
        let rule = |option, holds, rule| self.rule(option, holds, rule);
        rule("batch_size", (1..=65_536).contains(&self.batch_size), "must be from 1 to 65536")?;
        let accumulates = (1..=65_536).contains(&self.grad_accum_steps);
        rule("grad_accum_steps", accumulates, "must be from 1 to 65536")?;
        let base = (0..=1 << 24).contains(&self.lr_base_size);
        rule("lr_base_size", base, "must be from 0 (off) to 16777216")?;
        rule("seed", self.seed <= i64::MAX as u64, "must be below 2^63, as TOML has it")?;
        rule("lr", self.lr > 0.0 && self.lr <= 100.0, "must be in (0, 100]")?;
        rule("min_lr", (0.0..=self.lr).contains(&self.min_lr), "must be from 0 to lr")?;
        rule("weight_decay", (0.0..=10.0).contains(&self.weight_decay), "must be from 0 to 10")?;
        let betas = self.opt_betas.iter().all(|beta| (0.0..1.0).contains(beta));
        rule("opt_betas", betas, "must be two numbers in [0, 1)")?;
        rule("opt_eps", self.opt_eps > 0.0 && self.opt_eps < 1.0, "must be in (0, 1)")?;
        let layers = self.layer_decay > 0.0 && self.layer_decay <= 1.0;
        rule("layer_decay", layers, "must be in (0, 1]")?;
        let clips = (0.0..=1e9).contains(&self.clip_grad);
        rule("clip_grad", clips, "must be from 0 (off) to 1e9")?;
        let decays = (0.0..1.0).contains(&self.model_ema_decay);
        rule("model_ema_decay", decays, "must be in [0, 1)")?;
        rule("drop_path", (0.0..1.0).contains(&self.drop_path), "must be in [0, 1)")?;
        rule("hflip", (0.0..=1.0).contains(&self.hflip), "must be from 0 to 1")
    }

    fn check_classification(&self) -> Result<()> {
        BiFormerConfig::from_name(&self.model)?;
        let rule = |option, holds, rule| self.rule(option, holds, rule);
        let unit = 0.0..=1.0;
        rule("img_size", (32..=2048).contains(&self.img_size), "must be from 32 to 2048 pixels")?;
        rule("crop_pct", self.crop_pct > 0.0 && self.crop_pct <= 1.0, "must be in (0, 1]")?;
        rule("epochs", (1..=100_000).contains(&self.epochs), "must be from 1 to 100000")?;
        let cooldown = (0..=100_000).contains(&self.cooldown_epochs);
        rule("cooldown_epochs", cooldown, "must be from 0 to 100000")?;
        rule("warmup_lr", (0.0..=self.lr).contains(&self.warmup_lr), "must be from 0 to lr")?;
        let epochs = 0.0..=self.epochs as f64;
        rule("warmup_epochs", epochs.contains(&self.warmup_epochs), "must be from 0 to epochs")?;
        rule("smoothing", (0.0..1.0).contains(&self.smoothing), "must be in [0, 1)")?;
        let [low, high] = self.scale;
        rule("scale", 0.0 < low && low <= high && high <= 1.0, "must be 0 < low <= high <= 1")?;
        let [low, high] = self.ratio;
        rule("ratio", 0.0 < low && low <= high && high <= 100.0, "must be 0 < low <= high <= 100")?;
        self.train_transform()?;
        rule("color_jitter", unit.contains(&self.color_jitter), "must be from 0 to 1")?;
        rule("reprob", unit.contains(&self.reprob), "must be from 0 to 1")?;
        rule("recount", (1..=64).contains(&self.recount), "must be from 1 to 64")?;
        rule("aug_repeats", (1..=64).contains(&self.aug_repeats), "must be from 1 to 64")?;
        let alphas = 0.0..=100.0;
        rule("mixup", alphas.contains(&self.mixup), "must be from 0 (off) to 100")?;
        rule("cutmix", alphas.contains(&self.cutmix), "must be from 0 (off) to 100")?;
        rule("mixup_prob", unit.contains(&self.mixup_prob), "must be from 0 to 1")?;
        let switches = unit.contains(&self.mixup_switch_prob);
        rule("mixup_switch_prob", switches, "must be from 0 to 1")?;
        let blocks = (0..=16).contains(&self.class_blocks);
        rule("class_blocks", blocks, "must be from 0 to 16")?;
        let weights = 0.0..=100.0;
        rule("dense_weight", weights.contains(&self.dense_weight), "must be from 0 to 100")?;
        rule("cls_weight", weights.contains(&self.cls_weight), "must be from 0 to 100")?;
        let unused = self.token_label_data.is_some() && !self.token_label;
        rule("token_label_data", !unused, "needs token_label = true")?;
        if self.token_label {
            let whole = self.img_size.is_multiple_of(STRIDE);
            rule("img_size", whole, "must be a multiple of 32 with token_label")?;
            let other = "must be 0 with token_label: labels of tokens are mixed by mix_token alone";
            rule("mixup", self.mixup == 0.0, other)?;
            rule("cutmix", self.cutmix == 0.0, other)?;
        }
        Ok(())
    }

    fn check_segmentation(&self) -> Result<()> {
        let rule = |option, holds, rule| self.rule(option, holds, rule);
        SegmentorConfig::from_names(&self.model, &self.method)?;
        let widths = [
            ("neck_channels", self.neck_channels),
            ("head_channels", self.head_channels),
            ("aux_channels", self.aux_channels),
        ];
        for (key, channels) in widths {
            rule(key, (1..=4096).contains(&channels), "must be from 1 to 4096")?;
        }
        rule("crop_size", (32..=2048).contains(&self.crop_size), "must be from 32 to 2048 pixels")?;
        let [a, b] = self.img_scale.map(u64::from);
        let fits = (1..=MAX_WINDOW_PIXELS).contains(&a.saturating_mul(b));
        rule("img_scale", fits, "must be two sides with 1 to 4194304 pixels between them")?;
        let [low, high] = self.ratio_range;
        let range = 0.0 < low && low <= high && high <= 10.0;
        rule("ratio_range", range, "must be 0 < low <= high <= 10")?;
        let share = self.cat_max_ratio > 0.0 && self.cat_max_ratio <= 1.0;
        rule("cat_max_ratio", share, "must be in (0, 1]")?;
        rule("size_divisor", (1..=512).contains(&self.size_divisor), "must be from 1 to 512")?;
        let iters = 1..=1_000_000_000;
        rule("val_interval", iters.contains(&self.val_interval), "must be from 1 to 1000000000")?;
        rule("max_iters", iters.contains(&self.max_iters), "must be from 1 to 1000000000")?;
        let whole = self.max_iters.is_multiple_of(self.val_interval);
        let multiple = "must be a multiple of val_interval, so that a validation ends the run";
        rule("max_iters", whole, multiple)?;
        rule("power", (0.0..=10.0).contains(&self.power), "must be from 0 to 10")?;
        let warms_up = self.warmup_iters <= self.max_iters;
        rule("warmup_iters", warms_up, "must be from 0 to max_iters")?;
        let ratio = (0.0..=1.0).contains(&self.warmup_ratio);
        rule("warmup_ratio", ratio, "must be from 0 to 1")
    }

    /// What would be read and then do nothing.
    fn check_foreign_keys(&self) -> Result<()> {
        let of = |recipe| toml::Table::try_from(recipe).unwrap_or_default(); // a number may be too large
        let (own, default) = (of(self), of(&Self::default()));
        let (task, other) = match self.task {
            Task::Classify => ("classification", "task = \"segment\""),
            Task::Segment => ("segmentation", "task = \"classify\""),
        };
        for &key in self.task.foreign_keys().iter().filter(|&&key| key != "task") {
            if own.get(key) != default.get(key) {
                let reason = format!(
                    "means nothing to {task}: leave it out, or take {other}{}",
                    self.found(key)
                );
                return Err(Error::option(key, reason));
            }
        }
        Ok(())
    }

    fn rule(&self, option: &'static str, holds: bool, rule: &str) -> Result<()> {
        match holds {
            true => Ok(()),
            false => Err(Error::option(option, format!("{rule}{}", self.found(option)))),
        }
    }

    /// The value of a key, for messages.
    fn found(&self, key: &str) -> String {
        let table = toml::Table::try_from(self).unwrap_or_default(); // a seed may be too large
        table.get(key).map(|value| format!(", got {value}")).unwrap_or_default()
    }
}
