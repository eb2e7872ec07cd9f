//! Flags of `biformer info`.

use std::path::PathBuf;

use clap::Args;

use super::{Format, benchmark::parse_size};

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Models to list [default: all], or files of segmentors
    pub models: Vec<String>,
    /// Count the parts of segmentors with this head: semantic_fpn, upernet or linear
    #[arg(long, conflicts_with_all = ["token_labeling", "table6", "complexity"])]
    pub method: Option<String>,
    /// Count them as token labeling has them: with class attention and a head for each token
    #[arg(long)]
    pub token_labeling: bool,
    /// Side, or HEIGHTxWIDTH, of the pictures that multiply-accumulates are counted for [default: 224, of
    /// segmentors 512]
    #[arg(long, visible_aliases = ["imgsz", "size"], value_name = "SIZE", value_parser = parse_size)]
    pub img_size: Option<[usize; 2]>,
    /// Regions a side, the paper's S [default: that of the model]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub n_win: Option<u16>,
    /// Routed regions of stages 1 to 3, the paper's k [default: those of the model]
    #[arg(long, value_name = "K1,K2,K3", value_parser = parse_topks)]
    pub topk: Option<[usize; 3]>,
    /// Show every layer
    #[arg(long)]
    pub layers: bool,
    /// Count the models of the paper's Table 6, from the layout of Swin-T to BiFormer-S
    #[arg(long, conflicts_with_all = ["models", "token_labeling", "layers"])]
    pub table6: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    #[command(flatten)]
    pub complexity: ComplexityArgs,
}

impl InfoArgs {
    /// Whether it is segmentors that are listed: by name, or in files, whose names have a dot.
    pub fn lists_segmentors(&self) -> bool {
        self.method.is_some() || self.models.iter().any(|model| is_file_name(model))
    }

    /// Height and width of the pictures.
    pub fn img_size(&self) -> [usize; 2] {
        self.img_size.unwrap_or(if self.lists_segmentors() { [512; 2] } else { [224; 2] })
    }
}

/// Whether this is no name of a model.
pub fn is_file_name(model: &str) -> bool {
    model.contains(['.', '/'])
}

#[derive(Debug, Args)]
#[command(next_help_heading = "How cost grows with the picture")]
pub struct ComplexityArgs {
    /// Compare the attention of a model [default: biformer_tiny] with full, axial and window attention,
    /// at 224² to 7168² pixels
    #[arg(long, conflicts_with_all = ["token_labeling", "img_size", "layers", "table6"])]
    pub complexity: bool,
    /// Stage of the attention, from 1 to 3
    #[arg(long, requires = "complexity", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=3))]
    pub stage: u8,
    /// Side of the windows in tokens
    #[arg(long, value_name = "TOKENS", requires = "complexity", default_value_t = 7,
          value_parser = clap::value_parser!(u8).range(1..=56))]
    pub window: u8,
    /// Folder for complexity.csv and complexity.png
    #[arg(long, value_name = "DIR", requires = "complexity")]
    pub output: Option<PathBuf>,
}

fn parse_topks(text: &str) -> Result<[usize; 3], String> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(|k| k.trim().parse()).collect();
    let topks = numbers.ok().and_then(|numbers| <[usize; 3]>::try_from(numbers).ok());
    let wanted = "expected three numbers from 1, as in 1,4,16";
    topks.filter(|topks| !topks.contains(&0)).ok_or_else(|| wanted.to_owned())
}
