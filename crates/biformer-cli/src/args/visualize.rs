//! Flags of `biformer visualize`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::{CheckpointArgs, DeviceArgs, ScaleArgs, TransformArgs};

#[derive(Debug, Args)]
pub struct VisualizeArgs {
    /// Pictures: files, folders, globs, or - for one picture on standard input
    #[arg(required = true, value_name = "PICTURE")]
    pub pictures: Vec<String>,
    /// Folder for the drawings [default: runs/visualize, then runs/visualize2, …]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Pixel of the picture whose attention is drawn, from the left and from above; may be given
    /// several times [default: the middle]
    #[arg(long, value_name = "X,Y", value_parser = parse_point)]
    pub query: Vec<[u32; 2]>,
    /// Stage, from 1 to 4
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub stage: u8,
    /// Block of the stage, counted from 1, or last
    #[arg(long, default_value = "last")]
    pub block: Block,
    /// Head of the attention, counted from 0, or all for their mean
    #[arg(long, default_value = "all")]
    pub head: Head,
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    #[command(flatten)]
    pub transform: TransformArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub scale: ScaleArgs,
}

/// A block of a stage.
#[derive(Clone, Copy, Debug)]
pub enum Block {
    Last,
    /// Counted from 1.
    Number(usize),
}

/// Heads of an attention.
#[derive(Clone, Copy, Debug)]
pub enum Head {
    All,
    /// Counted from 0.
    Number(usize),
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "last" => Ok(Self::Last),
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err("expected a number from 1, or last".to_owned()),
        }
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) => Err("expected a number from 0, or all".to_owned()),
        }
    }
}

fn parse_point(text: &str) -> Result<[u32; 2], String> {
    let numbers = text.split_once(',').map(|(x, y)| [x, y].map(|n| n.trim().parse()));
    match numbers {
        Some([Ok(x), Ok(y)]) => Ok([x, y]),
        _ => Err("expected two numbers of pixels, as in 320,200".to_owned()),
    }
}
