//! A training recipe: everything a run depends on beside the pictures.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{LrPolicy, Task};
use crate::data::{ErasingMode, MixupMode};

/// Pixels along a token of the last stage.
pub(super) const STRIDE: usize = 32;

/// `aa` where there is no RandAugment.
pub(super) const NO_POLICY: &str = "none";

/// A recipe, written as TOML with timm's names, for segmentation with mmsegmentation's. Missing keys take
/// the defaults, which train `biformer_nano` on small pictures; unknown keys are errors, and so are keys of
/// another task than that of the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What is learnt.
    pub task: Task,
    /// One of [`MODEL_NAMES`](crate::models::MODEL_NAMES), for segmentation also one of
    /// [`VIT_NAMES`](crate::models::VIT_NAMES).
    pub model: String,
    /// Data set in ImageFolder layout with `train` and `val`, or the folder of a
    /// [`SegmentationSet`](crate::data::segmentation::SegmentationSet); usually given on the command line.
    pub data: Option<PathBuf>,
    /// Checkpoint to start from; its head is replaced if the classes differ in number. A segmentor may begin
    /// with the weights of a classifier.
    pub initial_checkpoint: Option<PathBuf>,
    /// Side of the square pictures that the model sees.
    pub img_size: usize,
    /// Share of the shorter side that evaluation keeps.
    pub crop_pct: f64,
    /// Passes over the training pictures while the learning rate changes.
    pub epochs: usize,
    /// Passes after those, at the least learning rate.
    pub cooldown_epochs: usize,
    /// Pictures in a forward pass of each process.
    pub batch_size: usize,
    /// Forward and backward passes in a step of the optimizer.
    pub grad_accum_steps: usize,
    /// Seed of weights, order of pictures, augmentation and stochastic depth.
    pub seed: u64,
    /// Learning rate after warm-up, of steps with [`lr_base_size`](Self::lr_base_size) pictures.
    pub lr: f64,
    /// Pictures in a step that `lr` is meant for; with more or fewer it grows or shrinks in
    /// proportion. 0 takes `lr` as it is.
    pub lr_base_size: usize,
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
    /// Factor of the learning rate from a layer to the one before it, for fine-tuning; 1 turns it off.
    pub layer_decay: f64,
    /// Largest norm of the gradients, over all of them; 0 turns clipping off.
    pub clip_grad: f64,
    /// Whether an exponential moving average of the weights is kept, and is what is evaluated and saved.
    pub model_ema: bool,
    /// Decay of the average.
    pub model_ema_decay: f64,
    /// Whether the decay rises from 0 in the first steps.
    pub model_ema_warmup: bool,
    /// Automatic mixed precision: whether both sides of the products of linear layers and embeddings are
    /// rounded to bfloat16, in forward and backward passes. All else is float32: sums, weights, norms,
    /// attention, loss, optimizer, average and validation.
    pub amp: bool,
    /// Whether batch norms take mean and variance over the pictures of all processes.
    pub sync_bn: bool,
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
    /// RandAugment in timm's notation, such as `rand-m9-mstd0.5-inc1`, or `none`.
    pub aa: String,
    /// Strength of colour jitter, where there is no RandAugment.
    pub color_jitter: f64,
    /// Probability of Random Erasing.
    pub reprob: f64,
    /// What Random Erasing fills in: `const` (0), `rand` (one colour) or `pixel` (noise).
    pub remode: ErasingMode,
    /// Boxes that Random Erasing erases.
    pub recount: usize,
    /// How often a picture is seen in a row, each time with other augmentation.
    pub aug_repeats: usize,
    /// α of Mixup; 0 turns it off.
    pub mixup: f64,
    /// α of CutMix; 0 turns it off.
    pub cutmix: f64,
    /// Probability of Mixup or CutMix.
    pub mixup_prob: f64,
    /// Probability of CutMix where both are on.
    pub mixup_switch_prob: f64,
    /// What shares a λ: the batch, a pair of pictures, or nothing (`elem`).
    pub mixup_mode: MixupMode,
    /// Epoch from which on nothing is mixed any more; 0 means never.
    pub mixup_off_epoch: usize,
    /// Blocks of class attention between the mean over the map and the head.
    pub class_blocks: usize,
    /// Token labeling: a head of its own for each token learns from label maps.
    pub token_label: bool,
    /// Folder of the label maps of the training pictures; usually given on the command line.
    pub token_label_data: Option<PathBuf>,
    /// Weight of the loss of the tokens.
    pub dense_weight: f64,
    /// Weight of the loss of the class, with token labeling.
    pub cls_weight: f64,
    /// Whether MixToken mixes the pictures of a batch, with token labeling.
    pub mix_token: bool,
    /// Definition of the data set of segmentation: the name of one that is built in, or a file; without it
    /// the `dataset.toml` in the data folder.
    pub dataset: Option<String>,
    /// One of [`METHOD_NAMES`](crate::segmentation::METHOD_NAMES).
    pub method: String,
    /// Channels of the levels of the pyramid of `semantic_fpn`, and of the maps of a plain ViT.
    pub neck_channels: usize,
    /// Channels of the head.
    pub head_channels: usize,
    /// Channels of the auxiliary head of `upernet`.
    pub aux_channels: usize,
    /// Side of the squares that are cut out of training pictures.
    pub crop_size: usize,
    /// The sides that pictures are resized to fit, the greater one for the longer side.
    #[serde(deserialize_with = "pair")]
    pub img_scale: [u32; 2],
    /// Least and greatest factor of `img_scale` in training.
    #[serde(deserialize_with = "pair")]
    pub ratio_range: [f64; 2],
    /// Pieces are drawn anew until no class has this share of their pixels or more; 1 turns that off.
    pub cat_max_ratio: f64,
    /// Whether brightness, contrast, saturation and hue of training pictures change.
    pub photo_metric_distortion: bool,
    /// Pictures are stretched to multiples of this in validation; 1 changes nothing.
    pub size_divisor: u32,
    /// Steps of the optimizer of segmentation.
    pub max_iters: usize,
    /// Steps from one validation to the next; each such part is an epoch of the run.
    pub val_interval: usize,
    /// How the learning rate of segmentation falls.
    pub lr_policy: LrPolicy,
    /// Exponent of the policy `poly`.
    pub power: f64,
    /// Steps of the linear warm-up of segmentation.
    pub warmup_iters: usize,
    /// Share of the regular learning rate that warm-up begins with.
    pub warmup_ratio: f64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            task: Task::Classify,
            model: "biformer_nano".to_owned(),
            data: None,
            initial_checkpoint: None,
            img_size: 64,
            crop_pct: 1.0,
            epochs: 15,
            cooldown_epochs: 0,
            batch_size: 64,
            grad_accum_steps: 1,
            seed: 0,
            lr: 2e-3,
            lr_base_size: 0,
            min_lr: 1e-5,
            warmup_lr: 1e-5,
            warmup_epochs: 1.0,
            sched_on_updates: true,
            weight_decay: 0.05,
            opt_betas: [0.9, 0.999],
            opt_eps: 1e-8,
            layer_decay: 1.0,
            clip_grad: 0.0,
            model_ema: false,
            model_ema_decay: 0.9998,
            model_ema_warmup: true,
            amp: false,
            sync_bn: false,
            drop_path: 0.0,
            smoothing: 0.1,
            scale: [0.35, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            hflip: 0.5,
            aa: NO_POLICY.to_owned(),
            color_jitter: 0.0,
            reprob: 0.0,
            remode: ErasingMode::Pixel,
            recount: 1,
            aug_repeats: 1,
            mixup: 0.0,
            cutmix: 0.0,
            mixup_prob: 1.0,
            mixup_switch_prob: 0.5,
            mixup_mode: MixupMode::Batch,
            mixup_off_epoch: 0,
            class_blocks: 0,
            token_label: false,
            token_label_data: None,
            dense_weight: 0.5,
            cls_weight: 1.0,
            mix_token: true,
            dataset: None,
            method: "semantic_fpn".to_owned(),
            neck_channels: 128,
            head_channels: 64,
            aux_channels: 64,
            crop_size: 256,
            img_scale: [1024, 256],
            ratio_range: [0.5, 2.0],
            cat_max_ratio: 0.75,
            photo_metric_distortion: true,
            size_divisor: 32,
            max_iters: 2000,
            val_interval: 200,
            lr_policy: LrPolicy::Poly,
            power: 1.0,
            warmup_iters: 100,
            warmup_ratio: 1e-3,
        }
    }
}

impl Recipe {
    /// The built-in recipe for segmentation: what of the defaults is too much for dense tasks is smaller.
    pub fn segmentation() -> Self {
        Self {
            task: Task::Segment,
            batch_size: 8,
            lr: 1e-3,
            min_lr: 0.0,
            weight_decay: 0.01,
            ..Self::default()
        }
    }
}

/// Two numbers; of an array, serde would drop the third.
fn pair<'de, D: Deserializer<'de>, N: Deserialize<'de>>(
    deserializer: D,
) -> Result<[N; 2], D::Error> {
    let numbers = Vec::deserialize(deserializer)?;
    let length = numbers.len();
    numbers.try_into().map_err(|_: Vec<N>| D::Error::invalid_length(length, &"two numbers"))
}
