//! What a recipe says to each part of training.

use super::recipe::{NO_POLICY, STRIDE};
use super::{AdamWOptions, CosineSchedule, IterSchedule, Recipe, Task};
use crate::classification::TokenParts;
use crate::data::segmentation::{PhotoMetricDistortion, SegmentationTransform};
use crate::data::{Filter, Mixup, RandAugment, RandomErasing, TrainTransform};
use crate::models::BackboneConfig;
use crate::segmentation::{DecodeHeadConfig, SegmentorConfig};
use crate::{Precision, Result};

impl Recipe {
    /// The learning rate of a step, of `steps` in the epoch; steps and epochs count from 0.
    pub fn lr_at(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        if self.task == Task::Segment {
            return self.iter_schedule().lr_at((epoch * steps + step) as f64);
        }
        let t = match self.sched_on_updates {
            true => epoch as f64 + step as f64 / steps as f64,
            false => epoch as f64,
        };
        self.schedule().lr_at(t)
    }

    /// The recipe with the learning rates of a step of `images`, see
    /// [`lr_base_size`](Self::lr_base_size). The rates before and after may not exceed the rate between.
    pub fn with_lr_for(&self, images: usize) -> Self {
        let lr = match self.lr_base_size {
            0 => self.lr,
            base => self.lr * images as f64 / base as f64,
        };
        let (min_lr, warmup_lr) = (self.min_lr.min(lr), self.warmup_lr.min(lr));
        Self { lr, min_lr, warmup_lr, lr_base_size: 0, ..self.clone() }
    }

    /// Passes over the training pictures in all; in segmentation, parts that end with a validation.
    pub fn total_epochs(&self) -> usize {
        match self.task {
            Task::Classify => self.epochs + self.cooldown_epochs,
            Task::Segment => self.max_iters / self.val_interval,
        }
    }

    /// The schedule of segmentation, in steps.
    pub fn iter_schedule(&self) -> IterSchedule {
        IterSchedule {
            policy: self.lr_policy,
            lr: self.lr,
            min_lr: self.min_lr,
            power: self.power,
            max_iters: self.max_iters as f64,
            warmup_iters: self.warmup_iters as f64,
            warmup_ratio: self.warmup_ratio,
        }
    }

    /// The schedule of classification, in epochs.
    pub fn schedule(&self) -> CosineSchedule {
        CosineSchedule {
            lr: self.lr,
            min_lr: self.min_lr,
            warmup_lr: self.warmup_lr,
            warmup_epochs: self.warmup_epochs,
            epochs: self.epochs as f64,
        }
    }

    /// What is done to each training picture.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if `aa` is no policy.
    pub fn train_transform(&self) -> Result<TrainTransform> {
        let auto_augment = match self.aa.as_str() {
            NO_POLICY => None,
            // As the official code: the filter of the crop serves RandAugment too.
            policy => Some(RandAugment { interpolation: Some(Filter::Bicubic), ..policy.parse()? }),
        };
        let Self { reprob: prob, remode: mode, recount: count, .. } = *self;
        Ok(TrainTransform {
            scale: self.scale.into(),
            ratio: self.ratio.into(),
            hflip: self.hflip,
            auto_augment,
            color_jitter: self.color_jitter,
            random_erasing: (prob > 0.0).then_some(RandomErasing { prob, mode, count }),
            ..TrainTransform::new(self.img_size)
        })
    }

    /// Mixup and CutMix in `epoch`, counted from 0, if anything is mixed.
    pub fn mixup_in(&self, epoch: usize) -> Option<Mixup> {
        let mixup = Mixup {
            mixup_alpha: self.mixup,
            cutmix_alpha: self.cutmix,
            prob: self.mixup_prob,
            switch_prob: self.mixup_switch_prob,
            mode: self.mixup_mode,
        };
        let is_off = self.mixup_off_epoch > 0 && epoch >= self.mixup_off_epoch;
        (mixup.is_active() && !is_off).then_some(mixup)
    }

    /// Rows and columns of the tokens of the last stage.
    pub fn token_grid(&self) -> [usize; 2] {
        [self.img_size / STRIDE; 2]
    }

    /// What the classifier has beside backbone and head.
    pub fn token_parts(&self) -> TokenParts {
        TokenParts { class_blocks: self.class_blocks, aux_head: self.token_label }
    }

    /// What products of forward and backward passes are rounded to, see [`amp`](Self::amp).
    pub fn precision(&self) -> Precision {
        if self.amp { Precision::Bf16 } else { Precision::F32 }
    }

    /// The options of the optimizer.
    pub fn optimizer(&self) -> AdamWOptions {
        AdamWOptions { betas: self.opt_betas, eps: self.opt_eps, weight_decay: self.weight_decay }
    }

    /// The segmentor that the recipe describes.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if there is no such model or method.
    pub fn segmentor_config(&self, num_classes: usize) -> Result<SegmentorConfig> {
        let mut backbone = BackboneConfig::from_name(&self.model)?;
        if let BackboneConfig::Vit(vit) = &mut backbone {
            vit.pyramid_channels = self.neck_channels;
            vit.grid = self.crop_size.div_ceil(vit.patch_size);
        }
        let backbone = backbone.with_drop_path_rate(self.drop_path);
        let mut config = SegmentorConfig::for_method(&self.method, backbone)?;
        match &mut config.decode_head {
            DecodeHeadConfig::SemanticFpn(head) => {
                head.pyramid_channels = self.neck_channels;
                head.channels = self.head_channels;
            }
            DecodeHeadConfig::Uper(head, auxiliary) => {
                head.channels = self.head_channels;
                auxiliary.channels = self.aux_channels;
            }
        }
        Ok(config.with_num_classes(num_classes))
    }

    /// What is done to each training picture and its labels.
    pub fn segmentation_transform(&self) -> SegmentationTransform {
        let [low, high] = self.ratio_range;
        SegmentationTransform {
            img_scale: self.img_scale,
            ratio_range: (low, high),
            crop_size: self.crop_size,
            cat_max_ratio: self.cat_max_ratio,
            hflip: self.hflip,
            photometric: self.photo_metric_distortion.then(PhotoMetricDistortion::default),
        }
    }
}
