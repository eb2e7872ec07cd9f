//! `biformer eval`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use biformer::classification::{evaluate, imagenet1k_classes, imagenet1k_wordnet_ids};
use biformer::data::{DataLoader, ImageFolder, Split, split_folder};
use serde_json::json;

use super::{Done, load, plural, print, shown};
use crate::args::EvalArgs;
use crate::device;
use crate::progress::{Progress, say};

pub fn run(args: &EvalArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let loaded = load(&args.checkpoint, &args.transform, &device)?.for_inference_in(precision);
    let folder = open(&val_folder(&args.data)?, &loaded.info.classes)?;
    let images = folder.samples.len();
    let loader = DataLoader {
        samples: folder.samples,
        batch_size: args.batch_size.into(),
        shuffle: false,
        seed: 0,
    };

    let start = Instant::now();
    let mut progress = Progress::new();
    let mut done = 0;
    let result = evaluate(&loaded.model, loader, loaded.info.transform, &device, |batch| {
        done += batch.labels.len() + batch.skipped.len();
        for (_, reason) in &batch.skipped {
            progress.line(format!("warning: skipped: {reason}"));
        }
        progress.count("eval", done, images, "");
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    progress.finish();
    let Some(result) = result else {
        say(format!("interrupted after {done} of {}", plural(images, "image")));
        return Ok(Done::Interrupted);
    };
    let seconds = start.elapsed().as_secs_f64();

    print(format_args!(
        "{}  {}  top1 {:.4}  top5 {:.4}  loss {:.4}",
        loaded.info.model,
        plural(result.accuracy.images, "image"),
        result.accuracy.top1(),
        result.accuracy.top5(),
        result.loss
    ))?;
    let line = json!({
        "val_top1": result.accuracy.top1(),
        "val_top5": result.accuracy.top5(),
        "val_loss": result.loss,
        "images": result.accuracy.images,
        "skipped": result.skipped,
        "seconds": seconds,
        "images_per_second": result.accuracy.images as f64 / seconds,
        "model": loaded.info.model,
        "output": null,
        "checkpoint": args.checkpoint.checkpoint,
        "data": shown(&args.data),
    });
    print(line)?;
    Ok(Done::Well)
}

/// The pictures, labelled with the model's classes.
fn open(folder: &Path, classes: &[String]) -> Result<ImageFolder, biformer::Error> {
    // The folders of ImageNet and its subsets are WordNet ids, not the names that people read.
    if classes == imagenet1k_classes()
        && let Ok(found) = ImageFolder::open_with_classes(folder, &imagenet1k_wordnet_ids())
    {
        return Ok(found);
    }
    ImageFolder::open_with_classes(folder, classes)
}

/// A data set with a `val` folder, or the folder of classes itself.
fn val_folder(data: &Path) -> Result<PathBuf, biformer::Error> {
    match split_folder(data, Split::Val) {
        Ok(folder) => Ok(folder),
        Err(_) if data.is_dir() => Ok(data.to_owned()),
        Err(error) => Err(error),
    }
}
