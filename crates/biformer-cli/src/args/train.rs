//! Flags of `biformer train`.

use std::path::PathBuf;

use biformer::data::{ErasingMode, MixupMode};
use biformer::train::{LrPolicy, Task};
use clap::Args;

use super::DeviceArgs;

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Recipe (TOML) to start from; the flags change single values of it
    pub recipe: Option<PathBuf>,
    /// Folder or archive (.tar, .zip) with train/CLASS/*.jpg and val/CLASS/*.jpg, or WebDataset shards;
    /// for segmentation the folder that `dataset.toml` or --dataset describes
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of the run [default: runs/train, then runs/train2, …]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "output", "Overrides"])]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Flags that change single values of the recipe.
#[derive(Debug, Args)]
pub struct Overrides {
    /// What to learn: classify (the class of a picture), segment (the class of each pixel), detect (boxes around
    /// things) or instance (these with masks)
    #[arg(long)]
    pub task: Option<Task>,
    /// Name of the model, see `biformer info`
    #[arg(long)]
    pub model: Option<String>,
    /// Checkpoint to start from: a file, hub:OWNER/NAME, or a name of those built in
    #[arg(long, value_name = "FILE")]
    pub initial_checkpoint: Option<String>,
    /// Side of the pictures that the model sees
    #[arg(long, visible_alias = "imgsz")]
    pub img_size: Option<usize>,
    /// Share of the shorter side that evaluation keeps
    #[arg(long)]
    pub crop_pct: Option<f64>,
    /// Passes over the training pictures
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Pictures in a forward pass of each process
    #[arg(long, visible_alias = "batch", short = 'b')]
    pub batch_size: Option<usize>,
    /// Batches in a step of the optimizer
    #[arg(long, value_name = "N")]
    pub grad_accum_steps: Option<usize>,
    /// Passes after those of --epochs, at the least learning rate
    #[arg(long, value_name = "N")]
    pub cooldown_epochs: Option<usize>,
    /// Seed of weights, order, augmentation and stochastic depth
    #[arg(long)]
    pub seed: Option<u64>,
    /// Learning rate after warm-up, taken as it is unless --lr-base-size is given too
    #[arg(long)]
    pub lr: Option<f64>,
    /// Pictures in a step that the learning rate is meant for: it is scaled to those there are
    /// (batch size × accumulation × processes); 0 turns that off
    #[arg(long, value_name = "N")]
    pub lr_base_size: Option<usize>,
    /// Learning rate at the end
    #[arg(long)]
    pub min_lr: Option<f64>,
    /// Learning rate at the start of warm-up
    #[arg(long)]
    pub warmup_lr: Option<f64>,
    /// Length of the linear warm-up
    #[arg(long)]
    pub warmup_epochs: Option<f64>,
    /// Change the learning rate with every step (true) or every epoch (false)
    #[arg(long, value_name = "BOOL")]
    pub sched_on_updates: Option<bool>,
    /// Decoupled weight decay; not for norms and biases
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Decays of the moments of AdamW
    #[arg(long, num_args = 2, value_names = ["BETA1", "BETA2"])]
    pub opt_betas: Option<Vec<f64>>,
    /// Epsilon of AdamW
    #[arg(long)]
    pub opt_eps: Option<f64>,
    /// Factor of the learning rate from a layer to the one before it, for fine-tuning; 1 is off
    #[arg(long, value_name = "FACTOR")]
    pub layer_decay: Option<f64>,
    /// Largest norm of the gradients; 0 is off
    #[arg(long, value_name = "NORM")]
    pub clip_grad: Option<f64>,
    /// Keep an average of the weights, to be evaluated and saved
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub model_ema: Option<bool>,
    /// Decay of the average
    #[arg(long, value_name = "DECAY")]
    pub model_ema_decay: Option<f64>,
    /// Let the decay rise from 0 in the first steps
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub model_ema_warmup: Option<bool>,
    /// Round what linear layers and embeddings multiply to bfloat16, forward and backward (mixed
    /// precision); needs a processor with avx512_bf16, or a GPU that has it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub amp: Option<bool>,
    /// Let batch norms take mean and variance over the pictures of all processes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub sync_bn: Option<bool>,
    /// Stochastic depth of the last block
    #[arg(long)]
    pub drop_path: Option<f64>,
    /// Label smoothing
    #[arg(long)]
    pub smoothing: Option<f64>,
    /// Least and greatest area of random crops
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"])]
    pub scale: Option<Vec<f64>>,
    /// Least and greatest aspect ratio of random crops
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"])]
    pub ratio: Option<Vec<f64>>,
    /// Probability of a horizontal flip
    #[arg(long)]
    pub hflip: Option<f64>,
    /// RandAugment as in rand-m9-mstd0.5-inc1, or none
    #[arg(long, value_name = "POLICY")]
    pub aa: Option<String>,
    /// Strength of colour jitter, where there is no RandAugment
    #[arg(long)]
    pub color_jitter: Option<f64>,
    /// Probability of Random Erasing
    #[arg(long)]
    pub reprob: Option<f64>,
    /// What Random Erasing fills in: const, rand or pixel
    #[arg(long, value_name = "MODE")]
    pub remode: Option<ErasingMode>,
    /// Boxes that Random Erasing erases
    #[arg(long, value_name = "N")]
    pub recount: Option<usize>,
    /// How often a picture is seen in a row, each time with other augmentation
    #[arg(long, value_name = "N")]
    pub aug_repeats: Option<usize>,
    /// Mixup's alpha; 0 is off
    #[arg(long, value_name = "ALPHA")]
    pub mixup: Option<f64>,
    /// CutMix's alpha; 0 is off
    #[arg(long, value_name = "ALPHA")]
    pub cutmix: Option<f64>,
    /// Probability of Mixup or CutMix
    #[arg(long)]
    pub mixup_prob: Option<f64>,
    /// Probability of CutMix where both are on
    #[arg(long)]
    pub mixup_switch_prob: Option<f64>,
    /// What shares a lambda: batch, pair or elem
    #[arg(long, value_name = "MODE")]
    pub mixup_mode: Option<MixupMode>,
    /// Epoch from which on nothing is mixed any more; 0 means never
    #[arg(long, value_name = "EPOCH")]
    pub mixup_off_epoch: Option<usize>,
    /// Blocks of class attention in front of the head
    #[arg(long, value_name = "N")]
    pub class_blocks: Option<usize>,
    /// Token labeling: let each token learn from label maps
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub token_label: Option<bool>,
    /// Folder of the label maps, as `biformer label-maps` writes them
    #[arg(long, value_name = "DIR")]
    pub token_label_data: Option<PathBuf>,
    /// Weight of the loss of the tokens
    #[arg(long, value_name = "WEIGHT")]
    pub dense_weight: Option<f64>,
    /// Weight of the loss of the class, with token labeling
    #[arg(long, value_name = "WEIGHT")]
    pub cls_weight: Option<f64>,
    /// Mix a box of tokens with another picture (MixToken), with token labeling
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub mix_token: Option<bool>,
    /// Data set of segmentation: ade20k, camvid, or a TOML file [default: dataset.toml in the data folder]
    #[arg(long, value_name = "NAME", help_heading = OF_SEGMENTATION)]
    pub dataset: Option<String>,
    /// Head: semantic_fpn, upernet, or linear on a backbone that does not learn
    #[arg(long, help_heading = OF_SEGMENTATION)]
    pub method: Option<String>,
    /// Channels of the pyramid of semantic_fpn
    #[arg(long, value_name = "N", help_heading = OF_SEGMENTATION)]
    pub neck_channels: Option<usize>,
    /// Channels of the head
    #[arg(long, value_name = "N", help_heading = OF_SEGMENTATION)]
    pub head_channels: Option<usize>,
    /// Channels of the auxiliary head of upernet
    #[arg(long, value_name = "N", help_heading = OF_SEGMENTATION)]
    pub aux_channels: Option<usize>,
    /// Factors of the losses of pixels, one for each class
    #[arg(long, value_delimiter = ',', value_name = "W,W,…", help_heading = OF_SEGMENTATION)]
    pub class_weight: Option<Vec<f64>>,
    /// Side of the squares that are cut out of training pictures
    #[arg(long, value_name = "PIXELS", help_heading = OF_SEGMENTATION)]
    pub crop_size: Option<usize>,
    /// Sides that pictures are resized to fit
    #[arg(long, num_args = 2, value_names = ["LONG", "SHORT"], help_heading = OF_SEGMENTATION)]
    pub img_scale: Option<Vec<u32>>,
    /// Least and greatest factor of --img-scale in training
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], help_heading = OF_SEGMENTATION)]
    pub ratio_range: Option<Vec<f64>>,
    /// Cut out anew until no class has this share of the pixels; 1 is off
    #[arg(long, value_name = "SHARE", help_heading = OF_SEGMENTATION)]
    pub cat_max_ratio: Option<f64>,
    /// Change brightness, contrast, saturation and hue
    #[arg(long, value_name = "BOOL", help_heading = OF_SEGMENTATION)]
    pub photo_metric_distortion: Option<bool>,
    /// Stretch pictures to multiples of this in validation
    #[arg(long, value_name = "PIXELS", help_heading = OF_SEGMENTATION)]
    pub size_divisor: Option<u32>,
    /// Steps of the optimizer
    #[arg(long, value_name = "N", help_heading = OF_SEGMENTATION)]
    pub max_iters: Option<usize>,
    /// Steps from one validation to the next
    #[arg(long, value_name = "N", help_heading = OF_SEGMENTATION)]
    pub val_interval: Option<usize>,
    /// How the learning rate falls: poly or cosine
    #[arg(long, value_name = "POLICY", help_heading = OF_SEGMENTATION)]
    pub lr_policy: Option<LrPolicy>,
    /// Exponent of the policy poly
    #[arg(long, help_heading = OF_SEGMENTATION)]
    pub power: Option<f64>,
    /// Steps of the linear warm-up
    #[arg(long, value_name = "N", help_heading = OF_SEGMENTATION)]
    pub warmup_iters: Option<usize>,
    /// Share of the regular learning rate that warm-up begins with
    #[arg(long, value_name = "SHARE", help_heading = OF_SEGMENTATION)]
    pub warmup_ratio: Option<f64>,
    /// Epochs after which the learning rate falls to a tenth
    #[arg(long, num_args = 1.., value_name = "EPOCH", help_heading = OF_DETECTION)]
    pub lr_steps: Option<Vec<usize>>,
    /// See pictures at eleven sizes from 60 % of --img-scale to all of it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = OF_DETECTION)]
    pub multi_scale: Option<bool>,
    /// Convolutions of the head of retinanet before the last one, or of that of masks of mask_rcnn
    #[arg(long, value_name = "N", help_heading = OF_DETECTION)]
    pub stacked_convs: Option<usize>,
    /// Keep the running statistics of batch norms, and normalise with them
    #[arg(long, value_name = "BOOL", help_heading = OF_DETECTION)]
    pub norm_eval: Option<bool>,
}

const OF_SEGMENTATION: &str = "Of segmentation";
const OF_DETECTION: &str = "Of detection";
