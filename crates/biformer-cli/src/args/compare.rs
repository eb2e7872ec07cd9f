//! Flags of `biformer compare`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, Overrides};

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Recipes (TOML) of classifiers; the flags change the same values of all
    #[arg(required = true, value_name = "RECIPE")]
    pub recipes: Vec<PathBuf>,
    /// Folder or archive (.tar, .zip) with train/CLASS/*.jpg and val/CLASS/*.jpg
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Seeds; each recipe is trained with each
    #[arg(long, num_args = 1.., value_name = "N", default_values_t = [0])]
    pub seeds: Vec<u64>,
    /// Pictures in a run when speed and memory are measured
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub bench_batch_size: u16,
    /// Folder for results.csv, compare.png and the runs; what it has is not done again [default:
    /// runs/compare, then runs/compare2, …]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub device: DeviceArgs,
}
