//! Flags of `biformer check-data`.

use std::path::PathBuf;

use biformer::train::Task;
use clap::Args;

#[derive(Debug, Args)]
pub struct CheckDataArgs {
    /// Data set: a folder or an archive, as `train` takes it
    #[arg(value_name = "PATH")]
    pub data: PathBuf,
    /// What is to be learnt from it: classify, segment or detect
    #[arg(long, default_value = "classify")]
    pub task: Task,
    /// Definition of the data set: a TOML file; for segment also ade20k or camvid [default: dataset.toml in
    /// the folder; for detect else the layout of COCO]
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
}
