//! One file a command; each turns flags into library calls and prints what comes back.

pub mod benchmark;
pub mod check_data;
pub mod compare;
pub mod demo;
mod detect;
pub mod eval;
mod eval_report;
pub mod export;
pub mod info;
mod info_complexity;
mod info_segmentors;
mod info_table6;
pub mod label_maps;
mod pictures;
pub mod predict;
mod segment;
pub mod train;
pub mod visualize;

use std::fmt::Display;
use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::Error;
use biformer::classification::{LoadOptions, LoadedClassifier, Pretrained, load_classifier};
use biformer::data::EvalTransform;
use biformer::distributed::World;
use biformer::weights::resolve;
use burn::tensor::Device;
use serde::Serialize;
use serde_json::Value;

use crate::args::{CheckpointArgs, TransformArgs};
use crate::progress::say;

/// How a command ended that met no fatal error.
pub enum Done {
    Well,
    /// Some of the pictures could not be read.
    WithFailures,
    Interrupted,
}

/// Loads the weights that the flags name, telling on stderr what was replaced.
fn load(
    args: &CheckpointArgs,
    transform: &TransformArgs,
    device: &Device,
) -> anyhow::Result<LoadedClassifier> {
    let path = resolve(&args.checkpoint)?;
    if let Some(pretrained) = Pretrained::named(&path) {
        say(format!("{}: {}", pretrained.name, pretrained.about));
    }
    let options = LoadOptions {
        model: args.model.clone(),
        key: match args.use_ema {
            true => Some("model_ema".to_owned()),
            false => args.checkpoint_key.clone(),
        },
        num_classes: args.num_classes.map(|classes| classes as usize),
        ..LoadOptions::default()
    };
    let mut loaded = load_classifier(&path, &options, device)?;
    if let Some(classes) = loaded.replaced_head {
        say(format!(
            "warning: the head of {classes} classes is replaced by a fresh, untrained one of {}",
            loaded.model.num_classes()
        ));
    }
    let EvalTransform { img_size, crop_pct, .. } = &mut loaded.info.transform;
    if let Some(size) = transform.img_size {
        *img_size = size.into();
    }
    if let Some(share) = transform.crop_pct {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::option("crop-pct", format!("must be in (0, 1], got {share}")).into());
        }
        *crop_pct = share;
    }
    Ok(loaded)
}

/// Whether to go on, which no process does once one was asked to stop.
fn unless_stopped(world: &World, stop: &AtomicBool) -> ControlFlow<()> {
    match world.any(stop.load(Ordering::Relaxed)) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// A line of results. Unlike `println!`, a reader that went away is an error and no panic.
fn print(line: impl Display) -> std::io::Result<()> {
    writeln!(stdout(), "{line}")
}

/// Writes a file of rows, whole or not at all.
fn write_csv(path: &Path, rows: &[impl Serialize]) -> biformer::Result<()> {
    biformer::files::write_csv(path, |csv| rows.iter().try_for_each(|row| csv.serialize(row)))
}

/// `folder`, or the first of `folder2`, `folder3` … that does not exist.
fn next_free(folder: &str) -> PathBuf {
    let numbered = (2..).map(|number| PathBuf::from(format!("{folder}{number}")));
    let mut candidates = std::iter::once(PathBuf::from(folder)).chain(numbered);
    candidates.find(|path| !path.exists()).expect("numbers do not end")
}

/// One side of a square, `HEIGHTxWIDTH` of anything else: as the flag takes it.
fn size([height, width]: [usize; 2]) -> Value {
    if height == width { height.into() } else { format!("{height}x{width}").into() }
}

/// `count` of a thing, as a person writes it.
fn plural(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The path as one would type it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
