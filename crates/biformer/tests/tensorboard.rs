//! Event files of a run that goes through, and of one that is killed and resumed.
//!
//! Alone in its file, as `resume.rs`: seeds belong to the device.

mod event_files;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::data::shapes::{ShapesConfig, write_image_folder};
use biformer::train::{EpochMetrics, Event, Outcome, Recipe, RunFolder, train};
use burn::tensor::Device;

use event_files::{event_files, read_curves};

/// Steps of an epoch: 8 classes of 12 pictures in batches of 8.
const STEPS: usize = 12;

#[test]
fn every_point_is_told_once_whatever_happens() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let data = folder.path().join("data");
    let shapes = ShapesConfig { img_size: 32, train_per_class: 12, val_per_class: 1, seed: 0 };
    write_image_folder(&data, &shapes).expect("drawn pictures");
    let recipe =
        Recipe { data: Some(data), img_size: 32, epochs: 2, batch_size: 8, ..Recipe::default() };

    let whole = RunFolder::new(&folder.path().join("whole")).expect("a free folder");
    let Outcome::Finished { metrics, .. } = run(&whole, &recipe, false, &mut |_| false) else {
        panic!("nobody stopped it");
    };
    let curves = read_curves(whole.root());
    assert_eq!(event_files(whole.root()).len(), 1);
    let steps = |tag: &str| curves[tag].keys().copied().collect::<Vec<_>>();
    assert_eq!(steps("train/loss_step"), [1, 11, 21]);
    assert_eq!(steps("lr_step"), [1, 11, 21]);
    for (tag, value) in EPOCH_TAGS {
        let points = metrics.iter().map(|epoch| (epoch.epoch as u64, value(epoch) as f32));
        assert_eq!(curves[tag], points.collect(), "{tag}");
    }
    assert_eq!(curves.len(), 2 + EPOCH_TAGS.len(), "{:?}", curves.keys());

    // Killed after step 21 of 24, so that only the checkpoint of the first epoch is there.
    let parts = RunFolder::new(&folder.path().join("parts")).expect("a free folder");
    let saved = folder.path().join("saved.safetensors");
    let outcome = run(&parts, &recipe, false, &mut |event| {
        if let Event::Epoch(_) = event {
            copy(&parts.checkpoint(), &saved);
        }
        matches!(event, Event::Step(step) if (step.epoch - 1) * STEPS + step.step == 21)
    });
    assert!(matches!(outcome, Outcome::Interrupted { epoch: 1, step: 9 }), "{outcome:?}");
    copy(&saved, &parts.checkpoint());
    run(&parts, &recipe, true, &mut |_| false);
    assert_eq!(event_files(parts.root()).len(), 2);
    let timeless = |mut curves: event_files::Curves| {
        curves.remove("images_per_second");
        curves
    };
    assert_eq!(timeless(read_curves(parts.root())), timeless(curves));

    // Nothing left to do, nothing told.
    run(&parts, &recipe, true, &mut |_| false);
    assert_eq!(event_files(parts.root()).len(), 2);
}

type Metric = fn(&EpochMetrics) -> f64;

fn score(metrics: &EpochMetrics, name: &str) -> f64 {
    let scores = metrics.scores.named();
    scores.into_iter().find(|(known, _)| *known == name).expect("a score").1
}

const EPOCH_TAGS: [(&str, Metric); 7] = [
    ("train/loss", |m| m.train_loss),
    ("train/top1", |m| score(m, "train_top1")),
    ("val/loss", |m| score(m, "val_loss")),
    ("val/top1", |m| score(m, "val_top1")),
    ("val/top5", |m| score(m, "val_top5")),
    ("lr", |m| m.lr),
    ("images_per_second", |m| m.images_per_second),
];

fn run(
    run: &RunFolder,
    recipe: &Recipe,
    resume: bool,
    stop_at: &mut dyn FnMut(&Event<'_>) -> bool,
) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut observe = |event: Event<'_>| {
        if stop_at(&event) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    train(run, recipe, resume, &Device::default(), &stop, &mut observe).expect("a run")
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy");
}
