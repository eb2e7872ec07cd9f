//! `biformer demo`: draw pictures, train on them, evaluate, show predictions.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use biformer::Error;
use biformer::classification::{
    LoadOptions, LoadedClassifier, Prediction, color_histogram, evaluate, load_classifier, predict,
};
use biformer::data::shapes::{self, ShapesConfig, render_split, write_image_folder};
use biformer::data::{DataLoader, ImageFolder, RgbImage, Split, split_folder};
use biformer::train::{Outcome, Recipe, RunFolder, train};
use biformer::visualize::{Tile, contact_sheet, write_png};
use burn::tensor::Device;
use serde_json::json;

use super::{Done, next_free, print, shown};
use crate::args::DemoArgs;
use crate::device;
use crate::progress::{Progress, say};

/// Pictures on the contact sheet.
const SHOWN: usize = 40;
const COLUMNS: usize = 8;

pub fn run(args: &DemoArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let start = Instant::now();
    let root = args.output.clone().unwrap_or_else(|| next_free("runs/demo"));
    if root.join("data").exists() || root.join("recipe.toml").exists() {
        let reason = format!("`{}` already holds a demo; choose another folder", root.display());
        return Err(Error::option("output", reason).into());
    }
    let recipe = recipe(args, &root);
    recipe.check()?;
    let run = RunFolder::new(&root)?;
    let pictures = draw_pictures(args, &root)?;

    let mut progress = Progress::new();
    progress.line(format!("training {} → {}", recipe.model, root.display()));
    let outcome = train(&run, &recipe, false, &device, stop, &mut |event| progress.show(event));
    progress.finish();
    if let Outcome::Interrupted { .. } = outcome? {
        say(format!("interrupted; go on with\n  biformer train --resume {}", root.display()));
        return Ok(Done::Interrupted);
    }

    let loaded = load_classifier(&run.best(), &LoadOptions::default(), &device)?.for_inference();
    let folder = split_folder(root.join("data"), Split::Val)?;
    let folder = ImageFolder::open_with_classes(folder, &loaded.info.classes)?;
    let sheet = root.join("predictions.png");
    draw_predictions(&loaded, &folder, &sheet, &device)?;
    let loader = DataLoader::new(folder.samples, 64);
    let result = evaluate(&loaded.model, loader, loaded.info.transform, &device, |_| {
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let Some(result) = result else { return Ok(Done::Interrupted) };

    let top1 = result.accuracy.top1();
    print(format_args!(
        "{:<34} val top1 {:.3}",
        "nearest centroid, colour histograms", pictures.baseline_top1
    ))?;
    print(format_args!("{:<34} val top1 {top1:.3}", loaded.info.model))?;
    print("")?;
    print(format_args!("pictures      {}", shown(&root.join("data"))))?;
    print(format_args!("predictions   {}", shown(&sheet)))?;
    print(format_args!("weights       {}", shown(&run.best())))?;
    print(format_args!("metrics       {}", shown(&root.join("results.csv"))))?;
    print("")?;
    print("next: your own pictures, in DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg")?;
    print("  biformer train --data DIR")?;
    print(format_args!("  biformer predict PICTURE --checkpoint {}", shown(&run.best())))?;
    let line = json!({
        "val_top1": top1,
        "val_top5": result.accuracy.top5(),
        "baseline_top1": pictures.baseline_top1,
        "images": result.accuracy.images,
        "train_images": pictures.train_images,
        "seconds": start.elapsed().as_secs_f64(),
        "output": shown(&root),
    });
    print(line)?;
    Ok(Done::Well)
}

struct Pictures {
    train_images: usize,
    /// What colour alone tells: accuracy of the nearest centroid on colour histograms.
    baseline_top1: f64,
}

fn draw_pictures(args: &DemoArgs, root: &Path) -> Result<Pictures, Error> {
    let mut config = ShapesConfig { seed: args.seed, ..ShapesConfig::default() };
    if let Some(count) = args.train_per_class {
        config.train_per_class = count.into();
        config.val_per_class = usize::from(count).div_ceil(3);
    }
    let classes = shapes::CLASSES.len();
    let (train_images, val_images) =
        (classes * config.train_per_class, classes * config.val_per_class);
    say(format!("drawing {train_images} + {val_images} pictures of {classes} classes"));
    write_image_folder(&root.join("data"), &config)?;
    let [train, val] = [shapes::Split::Train, shapes::Split::Val].map(|s| render_split(&config, s));
    let baseline_top1 = color_histogram::accuracy(&train, &val, classes);
    Ok(Pictures { train_images, baseline_top1 })
}

fn recipe(args: &DemoArgs, root: &Path) -> Recipe {
    let data = std::path::absolute(root.join("data")).unwrap_or_else(|_| root.join("data"));
    Recipe {
        data: Some(data),
        epochs: args.epochs.unwrap_or(5),
        batch_size: 16,
        lr: 1.5e-3,
        warmup_epochs: 0.25,
        // The pictures are small already, and the shape is all that tells.
        scale: [0.7, 1.0],
        seed: args.seed,
        ..Recipe::default()
    }
}

/// A contact sheet of pictures from all classes.
fn draw_predictions(
    loaded: &LoadedClassifier,
    folder: &ImageFolder,
    sheet: &Path,
    device: &Device,
) -> anyhow::Result<()> {
    let step = folder.samples.len().div_ceil(SHOWN).max(1);
    let samples: Vec<_> = folder.samples.iter().step_by(step).collect();
    let images = samples
        .iter()
        .map(|(picture, _)| picture.decode())
        .collect::<Result<Vec<RgbImage>, _>>()?;
    let best = predict(&loaded.model, &images, &loaded.info.transform, 1, device);
    let class = |index: usize| loaded.info.classes[index].as_str();
    let tiles: Vec<Tile<'_>> = samples
        .iter()
        .zip(&images)
        .zip(&best)
        .map(|(((_, label), image), best)| {
            let Prediction { class: predicted, probability } = best[0];
            Tile { image, label: Some(class(*label)), prediction: class(predicted), probability }
        })
        .collect();
    write_png(sheet, &contact_sheet(&tiles, COLUMNS))?;
    Ok(())
}
