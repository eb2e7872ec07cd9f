//! Flags of `biformer check-data`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct CheckDataArgs {
    /// Data set: a folder or an archive, as `train` takes it
    #[arg(value_name = "PATH")]
    pub data: PathBuf,
    /// What is to be learnt from it
    #[arg(long, value_enum, default_value_t = Learnt::Classify)]
    pub task: Learnt,
    /// Definition of the data set: a TOML file; for segment also ade20k or camvid [default: dataset.toml in
    /// the folder; for detect else the layout of COCO]
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Learnt {
    /// Folders of classes
    Classify,
    /// Pictures with label maps
    Segment,
    /// Pictures with boxes, and perhaps masks, in COCO's JSON
    Detect,
}
