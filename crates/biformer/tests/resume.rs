//! A run that is stopped at every step and in every validation ends like one that is not.
//!
//! Alone in its file: seeds belong to the device, and another test that draws numbers in the same
//! process would disturb them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::data::shapes::{ShapesConfig, write_image_folder};
use biformer::train::{EpochMetrics, Event, Outcome, Recipe, RunFolder, train};
use burn::tensor::Device;

#[test]
fn stopping_anywhere_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let data = folder.path().join("data");
    let shapes = ShapesConfig { img_size: 32, train_per_class: 3, val_per_class: 2, seed: 0 };
    write_image_folder(&data, &shapes).expect("drawn pictures");
    let recipe = Recipe {
        data: Some(data),
        img_size: 32,
        epochs: 2,
        batch_size: 8,
        drop_path: 0.3,
        ..Recipe::default()
    };
    let whole = RunFolder::new(&folder.path().join("whole")).expect("a free folder");
    let Outcome::Finished { metrics: expected, .. } = run(&whole, &recipe, false, |_| false) else {
        panic!("nobody stopped it");
    };

    let parts = RunFolder::new(&folder.path().join("parts")).expect("a free folder");
    let mut stops = 0;
    let found = loop {
        // Every other validation, else it would never come to its end.
        let stop_at = |event: &Event<'_>| match event {
            Event::Step(_) => true,
            Event::Validated { .. } => stops % 2 == 1,
            _ => false,
        };
        match run(&parts, &recipe, stops > 0, stop_at) {
            Outcome::Interrupted { .. } => stops += 1,
            Outcome::Finished { metrics, .. } => break metrics,
        }
        assert!(stops < 20, "no progress");
    };
    assert!(stops > 2 * 3, "{stops} stops in 2 epochs of 3 steps and a validation");
    let weights = |run: &RunFolder| [run.last(), run.best()].map(|path| read(&path));
    assert!(weights(&parts) == weights(&whole), "other weights");
    let numbers = |metrics: &[EpochMetrics]| metrics.iter().map(without_time).collect::<Vec<_>>();
    assert_eq!(numbers(&found), numbers(&expected));
}

fn run(
    run: &RunFolder,
    recipe: &Recipe,
    resume: bool,
    mut stop_at: impl FnMut(&Event<'_>) -> bool,
) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut observe = |event: Event<'_>| {
        if stop_at(&event) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    train(run, recipe, resume, &Device::default(), &stop, &mut observe).expect("a run")
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("weights")
}

/// As `results.csv` has it; the losses to five places, since the sum has been through JSON.
fn without_time(m: &EpochMetrics) -> String {
    let EpochMetrics { epoch, train_loss, train_top1, val_loss, val_top1, val_top5, .. } = m;
    format!(
        "{epoch} {train_loss:.5} {train_top1:.4} {val_loss:.5} {val_top1:.4} {val_top5:.4} {:.3e} {} {}",
        m.lr, m.skipped, m.val_images
    )
}
