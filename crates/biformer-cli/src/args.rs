//! Commands and flags, named as in timm; ultralytics' names are aliases.

use std::path::PathBuf;

use biformer::classification::PRETRAINED;
use biformer::data::{ErasingMode, MixupMode};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// BiFormer: train, evaluate and use vision transformers with bi-level routing attention.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, subcommand_required = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn a small picture set drawn on the spot: no file needed, half a minute or more
    Demo(DemoArgs),
    /// Train a classifier on a folder of pictures
    #[command(
        allow_negative_numbers = true,
        after_help = "Example:\n  biformer train --data path/to/imagenette --epochs 20\n  \
                            biformer train --resume runs/train"
    )]
    Train(Box<TrainArgs>),
    /// Measure the accuracy of saved weights
    Eval(EvalArgs),
    /// Write what a model sees in each cell of the training pictures, for token labeling
    #[command(
        after_help = "Example:\n  biformer label-maps --checkpoint best.safetensors --data imagenette \\\n    \
                      --grid 14 --output maps\n  biformer train --data imagenette --token-label \\\n    \
                      --token-label-data maps"
    )]
    LabelMaps(LabelMapsArgs),
    /// Name what is in pictures
    Predict(PredictArgs),
    /// List the models with parameters and multiply-accumulates
    Info(InfoArgs),
    /// Measure the speed of a model or of an operator on random numbers
    #[command(
        after_help = "Examples:\n  biformer benchmark --model biformer_small --batch-size 8\n  \
                            biformer benchmark --bench train --model biformer_nano --img-size 64 -b 64\n  \
                            biformer benchmark --bench operator --operator bra --profile\n  \
                            biformer benchmark --bench loader --data path/to/imagenette -b 64"
    )]
    Benchmark(BenchmarkArgs),
    /// Convert a checkpoint to safetensors under official names
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: cpu, or (if built in) cuda, vulkan, wgpu, metal; with an index as in
    /// cuda:1
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

#[derive(Debug, Args)]
pub struct PrecisionArgs {
    /// Numbers that linear layers and embeddings multiply; bf16 needs a processor with avx512_bf16
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for pictures, weights and predictions [default: runs/demo, then runs/demo2, …]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Passes over the pictures
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Pictures of each class to learn from
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=5000))]
    pub train_per_class: Option<u16>,
    /// Seed of pictures, weights and training
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Recipe (TOML) to start from; the flags change single values of it
    pub recipe: Option<PathBuf>,
    /// Folder or archive (.tar, .zip) with train/CLASS/*.jpg and val/CLASS/*.jpg, or WebDataset shards
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
}

/// Which weights, and how to read them.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// Weights: a .pth or .safetensors file, hub:OWNER/NAME[@REVISION][/FILE], or a name of those built
    /// in, see `biformer info`
    #[arg(long, visible_alias = "weights", value_name = "FILE", default_value = PRETRAINED[0].name)]
    pub checkpoint: String,
    /// Name of the model [default: what the file says]
    #[arg(long)]
    pub model: Option<String>,
    /// Take the averaged weights of a training checkpoint, the same as --checkpoint-key model_ema
    #[arg(long, conflicts_with = "checkpoint_key")]
    pub use_ema: bool,
    /// Name of the state dict to take from a training checkpoint [default: model, state_dict, …]
    #[arg(long, value_name = "KEY")]
    pub checkpoint_key: Option<String>,
    /// Classes of the head; a head of another number is replaced by a fresh one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub num_classes: Option<u32>,
}

/// How pictures are prepared.
#[derive(Debug, Args)]
pub struct TransformArgs {
    /// Side of the pictures that the model sees [default: what the file says, else 224]
    #[arg(long, visible_alias = "imgsz", value_parser = clap::value_parser!(u16).range(32..=2048))]
    pub img_size: Option<u16>,
    /// Share of the shorter side to keep [default: what the file says, else 0.875]
    #[arg(long)]
    pub crop_pct: Option<f64>,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    /// Data set, or its val folder or archive: CLASS/*.jpg
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub data: PathBuf,
    /// Pictures in one pass of the model
    #[arg(long, visible_alias = "batch", short = 'b', default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch_size: u16,
    /// Folder for the confusion matrix (PNG, CSV) and the scores of each class (CSV)
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Show all classes, not only the worst of many
    #[arg(long)]
    pub per_class: bool,
    #[command(flatten)]
    pub transform: TransformArgs,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct LabelMapsArgs {
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    /// Data set, or its train folder: CLASS/*.jpg
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub data: PathBuf,
    /// Folder for the maps; those that it has already are kept
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Cells a side; the annotator sees each picture at 32 times as many pixels [default: those
    /// of the pictures that it was trained on]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub grid: Option<u16>,
    /// Pictures in one pass of the model
    #[arg(long, visible_alias = "batch", short = 'b', default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch_size: u16,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Pictures: files, folders, globs, or - for one picture on standard input
    #[arg(required = true, value_name = "PICTURE")]
    pub pictures: Vec<String>,
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    /// Best classes to show
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub topk: u16,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    #[command(flatten)]
    pub transform: TransformArgs,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Models to list [default: all]
    pub models: Vec<String>,
    /// Count them as token labeling has them: with class attention and a head for each token
    #[arg(long)]
    pub token_labeling: bool,
    /// Side of the pictures that multiply-accumulates are counted for
    #[arg(long, visible_alias = "imgsz", default_value_t = 224,
          value_parser = clap::value_parser!(u16).range(32..=8192))]
    pub img_size: u16,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct BenchmarkArgs {
    /// What to measure
    #[arg(long, value_enum, default_value_t = Bench::Inference)]
    pub bench: Bench,
    /// Name of the model, see `biformer info` [default: biformer_tiny]
    #[arg(long)]
    pub model: Option<String>,
    /// Data set to load, or its train folder, with --bench loader
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Pictures in a run
    #[arg(long, visible_alias = "batch", short = 'b', default_value_t = 1)]
    pub batch_size: usize,
    /// Side, or HEIGHTxWIDTH, of the pictures [default: 224] or of the operator's map [default:
    /// 200x336]
    #[arg(long, visible_alias = "imgsz", value_name = "SIZE", value_parser = parse_size)]
    pub img_size: Option<[usize; 2]>,
    /// Threads that compute [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    /// Runs to time at least; they go on until a second is full
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub runs: usize,
    /// Runs before those
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub warmup: usize,
    /// Show the time of each class of operators
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    pub operator: Option<OperatorArgs>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// The operator of `--bench operator`. The defaults are the paper's setting for detection.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "With --bench operator")]
pub struct OperatorArgs {
    /// Operator to measure [default: bra]
    #[arg(long, value_enum)]
    pub operator: Option<Operator>,
    /// Channels of the map [default: 64]
    #[arg(long)]
    pub dim: Option<usize>,
    /// Heads [default: 2]
    #[arg(long, value_name = "N")]
    pub num_heads: Option<usize>,
    /// Regions a side, the paper's S [default: 16]
    #[arg(long, value_name = "S")]
    pub n_win: Option<usize>,
    /// Routed regions, the paper's k [default: 4]
    #[arg(long, value_name = "K")]
    pub topk: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Forward passes
    Inference,
    /// Training steps: forward, loss, backward, AdamW
    Train,
    /// Forward passes of one operator
    Operator,
    /// Pictures from disk through the augmentation of the paper's recipe, without a model
    Loader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operator {
    /// Bi-level routing attention
    Bra,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    Bf16,
}

/// `224` or `200x336`.
fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |side: &str| side.parse().map_err(|_| "expected a size as in 224 or 200x336");
    Ok([side(height)?, side(width)?])
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    /// Write numbers of 16 bits: half the size
    #[arg(long)]
    pub half: bool,
    /// File to write (.safetensors)
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}
