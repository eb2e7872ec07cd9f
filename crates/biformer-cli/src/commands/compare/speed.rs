//! Speed and memory of a model, each in a process of its own: a process never tells how much memory it holds less
//! than it once did.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use biformer::train::Recipe;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::CompareArgs;

/// What `biformer benchmark` says of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Speed {
    /// Pictures a second in training steps.
    pub train_images_per_second: f64,
    /// Pictures a second in forward passes.
    pub inference_images_per_second: f64,
    /// The most memory held in training, in MiB.
    pub train_peak_rss_mb: Option<f64>,
    /// The most memory held in inference, in MiB.
    pub inference_peak_rss_mb: Option<f64>,
    /// Millions of parameters, with 1000 classes.
    pub param_count: f64,
    /// 10⁹ multiply-accumulates for a picture.
    pub gmacs: f64,
}

/// Of the model of a recipe on pictures of its size.
pub(super) fn measure(args: &CompareArgs, recipe: &Recipe) -> anyhow::Result<Speed> {
    let [train, inference] = ["train", "inference"].map(|bench| benchmark(args, recipe, bench));
    let (train, inference) = (train?, inference?);
    let number = |result: &Value, key: &str| {
        result[key].as_f64().with_context(|| format!("`benchmark` gave no `{key}`"))
    };
    Ok(Speed {
        train_images_per_second: number(&train, "images_per_second")?,
        inference_images_per_second: number(&inference, "images_per_second")?,
        train_peak_rss_mb: train["peak_rss_mb"].as_f64(),
        inference_peak_rss_mb: inference["peak_rss_mb"].as_f64(),
        param_count: number(&inference, "param_count")?,
        gmacs: number(&inference, "gmacs")?,
    })
}

/// The last line of this binary's `benchmark`.
fn benchmark(args: &CompareArgs, recipe: &Recipe, bench: &str) -> anyhow::Result<Value> {
    let binary = std::env::current_exe().context("where this program is")?;
    let mut command = Command::new(binary);
    command.args(["benchmark", "--bench", bench, "--model", &recipe.model]);
    command.args(["--batch-size", &args.bench_batch_size.to_string()]);
    command.args(["--img-size", &recipe.img_size.to_string()]);
    command.args(["--device", &args.device.device]);
    let output = command.stdin(Stdio::null()).output().context("starting `benchmark`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last().map(serde_json::from_str) {
        Some(Ok(result)) if output.status.success() => Ok(result),
        _ => bail!(
            "`benchmark --bench {bench} --model {}` failed: {}",
            recipe.model,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}
