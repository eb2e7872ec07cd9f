//! `biformer eval`

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use biformer::Error;
use biformer::classification::{
    evaluate, imagenet1k_classes, imagenet1k_wordnet_ids, macro_f1, mean_per_class_accuracy,
};
use biformer::data::{DataLoader, ImageFolder, Split, split_folder};
use biformer::distributed::World;
use serde_json::json;

use super::eval_report::{print_table, write_files};
use super::{Done, detect, load, plural, print, segment, shown, unless_stopped};
use crate::args::EvalArgs;
use crate::device;
use crate::progress::{Progress, say};

pub fn run(args: &EvalArgs, world: &World, stop: &AtomicBool) -> anyhow::Result<Done> {
    let (task, checkpoint, transform) = (args.task, &args.checkpoint, &args.transform);
    if detect::is_meant(task, checkpoint, transform, &args.look, &args.detect)? {
        return detect::eval::run(args, world, stop);
    }
    if segment::is_meant(task, checkpoint, transform, args.look.given())? {
        return segment::eval::run(args, world, stop);
    }
    segment::refuse([("dataset", args.dataset.is_some()), ("split", args.split.is_some())])?;
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let loaded = load(&args.checkpoint, &args.transform, &device)?.for_inference_in(precision);
    let folder = open(&val_folder(&args.data)?, &loaded.info.classes)?;
    let images = folder.samples.len();
    if let Some(output) = &args.output {
        // Before the work: a folder that cannot be written is known at once.
        fs::create_dir_all(output).map_err(|e| Error::io("create the folder", output, e))?;
    }
    let loader = DataLoader::new(folder.samples, args.batch_size.into());
    let loader = DataLoader { shard: world.shard(), ..loader };

    let start = Instant::now();
    let mut progress = Progress::new();
    let mut done = 0;
    let result = evaluate(&loaded.model, loader, loaded.info.transform, &device, |batch| {
        done += batch.of;
        for (_, reason) in &batch.skipped {
            progress.line(format!("warning: skipped: {reason}"));
        }
        if world.is_first() {
            progress.count("eval", done, images, "");
        }
        unless_stopped(world, stop)
    });
    progress.finish();
    let Some(result) = result else {
        if world.is_first() {
            say(format!("interrupted after {done} of {}", plural(images, "image")));
        }
        return Ok(Done::Interrupted);
    };
    let result = result.over(world);
    if !world.is_first() {
        return Ok(Done::Well);
    }
    let seconds = start.elapsed().as_secs_f64();

    print_table(&result.confusion, &loaded.info.classes, args.per_class)?;
    if let Some(output) = &args.output {
        write_files(output, &result.confusion, &loaded.info.classes)?;
        say(format!("confusion matrix and per_class.csv: {}", shown(output)));
    }
    let classes = result.confusion.per_class();
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
        "mean_per_class_accuracy": mean_per_class_accuracy(&classes),
        "macro_f1": macro_f1(&classes),
        "images": result.accuracy.images,
        "skipped": result.skipped,
        "seconds": seconds,
        "images_per_second": result.accuracy.images as f64 / seconds,
        "model": loaded.info.model,
        "output": args.output.as_deref().map(shown),
        "checkpoint": args.checkpoint.checkpoint,
        "data": shown(&args.data),
    });
    print(line)?;
    Ok(Done::Well)
}

/// The pictures, labelled with the model's classes.
fn open(folder: &Path, classes: &[String]) -> Result<ImageFolder, Error> {
    // The folders of ImageNet and its subsets are WordNet ids, not the names that people read.
    if classes == imagenet1k_classes()
        && let Ok(found) = ImageFolder::open_with_classes(folder, &imagenet1k_wordnet_ids())
    {
        return Ok(found);
    }
    ImageFolder::open_with_classes(folder, classes)
}

/// A data set with a `val` folder or archive, or the folder or archive of classes itself.
fn val_folder(data: &Path) -> Result<PathBuf, Error> {
    match split_folder(data, Split::Val) {
        Ok(folder) => Ok(folder),
        Err(_) if data.exists() => Ok(data.to_owned()),
        Err(error) => Err(error),
    }
}
