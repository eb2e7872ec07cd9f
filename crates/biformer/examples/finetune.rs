//! Fine-tunes a checkpoint on one's own pictures.
//!
//! ```text
//! cargo run --release --example finetune -- runs/demo/best.safetensors my_pictures
//! ```
//!
//! `my_pictures` holds `train/CLASS/*.jpg` and `val/CLASS/*.jpg`. If the classes are others in
//! number than those of the checkpoint, its head is replaced by a fresh one.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use biformer::classification::{LoadOptions, load_classifier};
use biformer::train::{Event, Outcome, Recipe, RunFolder, train};
use biformer::weights::resolve;
use burn::tensor::Device;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, data] = arguments.as_slice() else {
        eprintln!("usage: finetune CHECKPOINT DATA");
        return ExitCode::from(2);
    };
    match finetune(checkpoint, data.as_ref()) {
        Ok(best_top1) => {
            println!("best validation top1 {best_top1:.3}: runs/finetune/best.safetensors");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn finetune(checkpoint: &str, data: &Path) -> biformer::Result<f64> {
    let device = Device::default();
    let checkpoint = resolve(checkpoint)?;
    let info = load_classifier(&checkpoint, &LoadOptions::default(), &device)?.info;
    let recipe = Recipe {
        model: info.model,
        img_size: info.transform.img_size,
        crop_pct: info.transform.crop_pct,
        data: Some(data.to_owned()),
        initial_checkpoint: Some(checkpoint),
        epochs: 5,
        batch_size: 16,
        lr: 2e-4, // small: the features are there, the head is what is new
        ..Recipe::default()
    };
    let run = RunFolder::new("runs/finetune".as_ref())?;
    let stop = AtomicBool::new(false); // set it from another thread to stop after a step
    let outcome = train(&run, &recipe, false, &device, &stop, &mut |event| match event {
        Event::Epoch(metrics) => println!("{metrics:?}"),
        Event::Skipped { reason, .. } => eprintln!("skipped: {reason}"),
        _ => {}
    })?;
    Ok(match outcome {
        Outcome::Finished { best_score, .. } => best_score,
        Outcome::Interrupted { .. } => 0.0,
    })
}
