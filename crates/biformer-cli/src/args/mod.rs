//! Commands and flags, named as in timm; ultralytics' names are aliases.

mod benchmark;
mod check_data;
mod compare;
mod detect;
mod info;
mod segment;
mod train;
mod visualize;

use std::path::PathBuf;

use biformer::classification::PRETRAINED;
use biformer::train::Task;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use benchmark::{Bench, BenchmarkArgs, Operator, OperatorArgs};
pub use check_data::CheckDataArgs;
pub use compare::CompareArgs;
pub use detect::DetectArgs;
pub use info::{ComplexityArgs, InfoArgs, is_file_name};
pub use segment::{LookArgs, Mode, ScaleArgs, WindowArgs};
pub use train::{Overrides, TrainArgs};
pub use visualize::{Block, Head, VisualizeArgs};

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
    /// Train a classifier or a segmentor on a folder of pictures
    #[command(
        allow_negative_numbers = true,
        after_help = "Example:\n  biformer train --data path/to/imagenette --epochs 20\n  \
                            biformer train --resume runs/train\n  \
                            biformer train --task segment --data path/to/camvid --dataset camvid \\\n    \
                            --initial-checkpoint biformer_nano.imagenette"
    )]
    Train(Box<TrainArgs>),
    /// Train classifiers of several recipes on the same pictures, and set accuracy, speed and memory side by side
    #[command(
        allow_negative_numbers = true,
        after_help = "Example, which goes on where it was if it is started again:\n  \
                      biformer compare recipes/stl_*.toml --data path/to/imagenette --img-size 64 --epochs 20 \\\n    \
                      --warmup-epochs 2 --cooldown-epochs 0 --batch-size 64 --grad-accum-steps 1 \\\n    \
                      --model-ema false --seeds 0 1 2 --output runs/compare"
    )]
    Compare(Box<CompareArgs>),
    /// Measure the accuracy of saved weights, the mIoU of a segmentor's, or the AP of a detector's
    #[command(
        after_help = "Examples:\n  biformer eval --data path/to/imagenette --checkpoint runs/train/best.safetensors\n  \
                      biformer eval --data path/to/camvid --dataset camvid --split test \\\n    \
                      --checkpoint runs/train/best.safetensors --aug-test\n  \
                      biformer eval --data path/to/coco --checkpoint retinanet.safetensors --output scores"
    )]
    Eval(EvalArgs),
    /// Write what a model sees in each cell of the training pictures, for token labeling
    #[command(
        after_help = "Example:\n  biformer label-maps --checkpoint best.safetensors --data imagenette \\\n    \
                      --grid 14 --output maps\n  biformer train --data imagenette --token-label \\\n    \
                      --token-label-data maps"
    )]
    LabelMaps(LabelMapsArgs),
    /// Name what is in pictures; with a segmentor or a detector, draw where it is
    Predict(PredictArgs),
    /// Draw where a model looks: routed regions and attention
    #[command(
        after_help = "Examples:\n  biformer visualize photo.jpg --query 320,200 --query 60,400\n  \
                            biformer visualize frames/ --stage 4 --output runs/frames"
    )]
    Visualize(VisualizeArgs),
    /// List the models with parameters and multiply-accumulates
    #[command(after_help = "Examples:\n  biformer info biformer_tiny --size 512x768 --layers\n  \
                            biformer info biformer_small --method upernet\n  \
                            biformer info runs/train/best.safetensors\n  \
                            biformer info --table6\n  \
                            biformer info biformer_tiny --complexity --stage 2 --output runs/complexity")]
    Info(InfoArgs),
    /// Measure the speed of models or of an operator on random numbers
    #[command(
        after_help = "Examples:\n  biformer benchmark --model biformer_tiny biformer_small --batch-size 1 8\n  \
                            biformer benchmark --detail --output before\n  \
                            biformer benchmark --compare before/benchmark.json\n  \
                            biformer benchmark --bench train --model biformer_nano --img-size 64 -b 64\n  \
                            biformer benchmark --bench growth --output growth\n  \
                            biformer benchmark --model biformer_small --method upernet --img-size 2048 \\\n    \
                            --mode slide\n  \
                            biformer benchmark --bench loader --data path/to/imagenette -b 64"
    )]
    Benchmark(BenchmarkArgs),
    /// Convert a checkpoint to safetensors under official names
    Export(ExportArgs),
    /// List what is wrong with a data set before hours of training
    #[command(after_help = "Examples:\n  biformer check-data path/to/imagenette\n  \
                            biformer check-data path/to/camvid --task segment --dataset camvid\n  \
                            biformer check-data path/to/coco --task detect\n\n\
                      Exit code: 1 if training would refuse the data set, else 0.")]
    CheckData(CheckDataArgs),
}

#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: cpu, or (if built in) cuda, vulkan, wgpu, metal; with an index as in
    /// cuda:1
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

#[derive(Clone, Debug, Args)]
pub struct PrecisionArgs {
    /// Numbers that linear layers and embeddings multiply; bf16 needs a processor with avx512_bf16 or a GPU
    /// that has it, f16 a GPU
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    Bf16,
    F16,
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
    /// What the weights do: classify, segment or detect [default: what the file says]
    #[arg(long)]
    pub task: Option<Task>,
    /// Data set, or its val folder or archive: CLASS/*.jpg; for a segmentor or a detector the folder that
    /// `dataset.toml` or --dataset describes, for a detector also one in the layout of COCO
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub data: PathBuf,
    /// Pictures in one pass of the model
    #[arg(long, visible_alias = "batch", short = 'b', default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch_size: u16,
    /// Folder for the scores of each class (CSV), of a classifier the confusion matrix too (PNG, CSV), of a
    /// detector what it found (COCO's JSON)
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
    /// Data set: ade20k, camvid, or a TOML file [default: dataset.toml in the data folder]
    #[arg(long, value_name = "NAME", help_heading = DENSE)]
    pub dataset: Option<String>,
    /// Part of the data set [default: val]
    #[arg(long, value_name = "NAME", help_heading = DENSE)]
    pub split: Option<String>,
    #[command(flatten)]
    pub look: LookArgs,
    #[command(flatten)]
    pub detect: DetectArgs,
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
    /// What the weights do: classify, segment or detect [default: what the file says]
    #[arg(long)]
    pub task: Option<Task>,
    #[command(flatten)]
    pub transform: TransformArgs,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder for drawings, label maps and lists [default: runs/predict, then runs/predict2, …]
    #[arg(long, value_name = "DIR", help_heading = DENSE)]
    pub output: Option<PathBuf>,
    /// Of the colours over the picture, from 0 to 1 [default: 0.5]
    #[arg(long, help_heading = DENSE)]
    pub opacity: Option<f32>,
    #[command(flatten)]
    pub look: LookArgs,
    #[command(flatten)]
    pub detect: DetectArgs,
}

const DENSE: &str = "With a segmentor or a detector";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    #[command(flatten)]
    pub transform: TransformArgs,
    /// Write numbers of 16 bits: half the size
    #[arg(long)]
    pub half: bool,
    /// File to write (.safetensors)
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}
