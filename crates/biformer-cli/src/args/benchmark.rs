//! Flags of `biformer benchmark`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DeviceArgs, PrecisionArgs, WindowArgs};

#[derive(Clone, Debug, Args)]
pub struct BenchmarkArgs {
    /// What to measure
    #[arg(long, value_enum, default_value_t = Bench::Inference)]
    pub bench: Bench,
    /// Names of models, see `biformer info` [default: biformer_tiny; with --bench throughput swin_tiny, biformer_stl and
    /// stl_quad_tree]
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub model: Vec<String>,
    /// Data set to load, or its train folder, with --bench loader
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Pictures in a run
    #[arg(long, visible_alias = "batch", short = 'b', num_args = 1.., value_name = "N",
          default_values_t = [1])]
    pub batch_size: Vec<usize>,
    /// Side, or HEIGHTxWIDTH, of the pictures [default: 224; with --bench growth from 128 to 2048]
    /// or of the operator's map [default: 200x336]
    #[arg(long, visible_alias = "imgsz", num_args = 1.., value_name = "SIZE",
          value_parser = parse_size)]
    pub img_size: Vec<[usize; 2]>,
    /// Threads that compute [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    /// Runs to time at least; they go on until a second is full
    #[arg(long, visible_alias = "num-bench-iter", value_name = "N", default_value_t = 10)]
    pub runs: usize,
    /// Runs before those
    #[arg(long, visible_alias = "num-warm-iter", value_name = "N", default_value_t = 3)]
    pub warmup: usize,
    /// Show time, arithmetic and traffic of each class of operators below the roofline
    #[arg(long, visible_alias = "profile")]
    pub detail: bool,
    /// Show what an earlier run took for the same: its last line, or the benchmark.json of its
    /// --output
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Folder for the results (JSON, CSV), the roofline of --detail and the charts of growth and throughput (PNG)
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub operator: Option<OperatorArgs>,
    /// Head of a segmentor on each model, with --bench inference: semantic_fpn, upernet or linear; from the pixels
    /// of a picture to the class of each
    #[arg(long, help_heading = "With a segmentor")]
    pub method: Option<String>,
    #[command(flatten)]
    pub windows: WindowArgs,
}

/// The operator of `--bench operator` and `growth`. The defaults are the paper's setting for detection.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "With --bench operator and growth")]
pub struct OperatorArgs {
    /// Operator to measure; growth measures both [default: bra]
    #[arg(long, value_enum)]
    pub operator: Option<Operator>,
    /// Channels of the map [default: 64]
    #[arg(long)]
    pub dim: Option<usize>,
    /// Heads [default: 2]
    #[arg(long, value_name = "N")]
    pub num_heads: Option<usize>,
    /// Regions a side, the paper's S [default: 16; for growth that of Eq. 9]
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
    /// Routing attention and full attention on pictures of many sizes: how fast their time grows
    Growth,
    /// Training steps and forward passes of models side by side, in float32 and, where the processor has it, bfloat16
    Throughput,
    /// Pictures from disk through the augmentation of the paper's recipe, without a model
    Loader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operator {
    /// Bi-level routing attention
    Bra,
    /// Attention of all tokens to all tokens
    Full,
}

/// `224` or `200x336`.
pub(super) fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |side: &str| side.parse().map_err(|_| "expected a size as in 224 or 200x336");
    Ok([side(height)?, side(width)?])
}
