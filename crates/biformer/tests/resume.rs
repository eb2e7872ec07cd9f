//! A run that is stopped at every step and in every validation ends like one that is not.
//!
//! Alone in its file: seeds belong to the device, and another test that draws numbers in the same
//! process would disturb them.

mod drawn_maps;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::Precision;
use biformer::data::MixupMode;
use biformer::data::shapes::{ShapesConfig, write_image_folder, write_segmentation_folder};
use biformer::train::{EpochMetrics, Event, Outcome, Recipe, RunFolder, Task, train};
use burn::tensor::Device;

/// One test: two at a time would draw from one device.
#[test]
fn stopping_anywhere_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let data = folder.path().join("data");
    let shapes = ShapesConfig { img_size: 32, train_per_class: 3, val_per_class: 2, seed: 0 };
    write_image_folder(&data, &shapes).expect("drawn pictures");
    let broken = data.join("train/disc/broken.png");
    fs::write(&broken, "no picture").expect("a file");
    // All that has a state of its own or draws numbers.
    let recipe = Recipe {
        data: Some(data.clone()),
        img_size: 32,
        epochs: 1,
        cooldown_epochs: 1,
        batch_size: 5,
        grad_accum_steps: 2,
        lr_base_size: 20,
        clip_grad: 1.0,
        layer_decay: 0.9,
        model_ema: true,
        drop_path: 0.3,
        mixup: 0.8,
        cutmix: 1.0,
        mixup_mode: MixupMode::Elem,
        ..Recipe::default()
    };
    ends_alike(&recipe, folder.path());
    let tokens = Recipe {
        img_size: 64,
        mixup: 0.0,
        cutmix: 0.0,
        class_blocks: 1,
        token_label: true,
        token_label_data: Some(drawn_maps::write(&data, [3, 4])),
        ..recipe.clone()
    };
    ends_alike(&tokens, &folder.path().join("tokens"));
    ends_alike(&segmentation(folder.path()), &folder.path().join("segmentation"));
    if let Err(reason) = Precision::Bf16.check(&Device::default()) {
        eprintln!("amp is skipped: {reason}");
        return;
    }
    ends_alike(&Recipe { amp: true, ..recipe }, &folder.path().join("amp"));
    let [exact, rounded] =
        ["whole", "amp/whole"].map(|run| read(&folder.path().join(run).join("last.safetensors")));
    assert!(exact != rounded, "amp changes nothing");
}

/// Epochs of six batches, while a pass over the pictures has four.
fn segmentation(folder: &Path) -> Recipe {
    let data = folder.join("scenes");
    let shapes = ShapesConfig { img_size: 64, train_per_class: 3, val_per_class: 1, seed: 0 };
    write_segmentation_folder(&data, &shapes).expect("drawn pictures");
    for broken in ["disc_0001.png", "star_0002.png"] {
        fs::write(data.join("images/train").join(broken), "no picture").expect("a file");
    }
    Recipe {
        task: Task::Segment,
        model: "biformer_pico".to_owned(),
        data: Some(data),
        method: "upernet".to_owned(),
        head_channels: 16,
        aux_channels: 16,
        crop_size: 64,
        img_scale: [64, 64],
        max_iters: 6,
        val_interval: 3,
        warmup_iters: 2,
        batch_size: 5,
        grad_accum_steps: 2,
        layer_decay: 0.9,
        model_ema: true,
        drop_path: 0.3,
        ..Recipe::default()
    }
}

fn ends_alike(recipe: &Recipe, folder: &Path) {
    let whole = RunFolder::new(&folder.join("whole")).expect("a free folder");
    let Outcome::Finished { metrics: expected, .. } = run(&whole, recipe, false, |_| false) else {
        panic!("nobody stopped it");
    };

    let parts = RunFolder::new(&folder.join("parts")).expect("a free folder");
    let (mut stops, mut in_a_step, mut place) = (0, 0, None);
    let found = loop {
        // Not always in the validation and in the middle of a step, else they would never end.
        let stop_at = |event: &Event<'_>| match event {
            Event::Step(_) => true,
            Event::Skipped { .. } | Event::Validated { .. } => stops % 2 == 1,
            _ => false,
        };
        match run(&parts, recipe, stops > 0, stop_at) {
            Outcome::Interrupted { epoch, step } => {
                stops += 1;
                in_a_step += usize::from(place == Some((epoch, step)));
                place = Some((epoch, step));
            }
            Outcome::Finished { metrics, .. } => break metrics,
        }
        assert!(stops < 30, "no progress");
    };
    assert!(stops > 2 * 3, "{stops} stops in 2 epochs of 3 steps and a validation");
    assert!(in_a_step > 0, "never stopped in the middle of a step");
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
    let scores = m.scores.named().into_iter().map(|(name, score)| format!("{name} {score:.5}"));
    let scores: Vec<_> = scores.collect();
    let EpochMetrics { epoch, train_loss, lr, skipped, val_images, .. } = m;
    format!("{epoch} {train_loss:.5} {lr:.3e} {skipped} {val_images} {}", scores.join(" "))
}
