//! `biformer eval` of a segmentor: mIoU, mAcc and aAcc, and the classes one by one.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use biformer::Error;
use biformer::data::DataLoader;
use biformer::data::segmentation::{SegmentationFolder, SegmentationSet};
use biformer::distributed::World;
use biformer::segmentation::{ClassIou, PixelConfusion, evaluate, write_per_class_csv};
use serde_json::json;

use super::super::eval_report::{FEW, WORST, shorten};
use super::super::{Done, plural, print, shown, unless_stopped};
use super::{inference, load};
use crate::args::EvalArgs;
use crate::device;
use crate::progress::{Progress, say};

pub fn run(args: &EvalArgs, world: &World, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let loaded = load(&args.checkpoint, &device)?;
    let inference = inference(&args.look, loaded.info.resize)?;
    let set = SegmentationSet::find(&args.data, args.dataset.as_deref())?;
    let split = args.split.as_deref().unwrap_or("val");
    let folder = SegmentationFolder::open(&args.data, set, split)?;
    check_classes(args, &loaded.info.classes, &folder.set)?;
    let (classes, images) = (folder.set.classes, folder.samples.len());
    if let Some(output) = &args.output {
        // Before the work: a folder that cannot be written is known at once.
        fs::create_dir_all(output).map_err(|e| Error::io("create the folder", output, e))?;
    }
    let loader = DataLoader { shard: world.shard(), ..DataLoader::new(folder.samples, 1) };

    let start = Instant::now();
    let mut progress = Progress::new();
    let mut done = 0;
    let model = loaded.model.for_inference_in(precision);
    let forward = |x| model.forward(x);
    let result = evaluate(&forward, loader, classes.len(), &inference, &device, |batch| {
        done += batch.of;
        if world.is_first() {
            progress.count("eval", done, images, "");
        }
        unless_stopped(world, stop)
    });
    progress.finish();
    let Some(confusion) = result? else {
        if world.is_first() {
            say(format!("interrupted after {done} of {}", plural(images, "image")));
        }
        return Ok(Done::Interrupted);
    };
    let confusion = confusion.over(world);
    if !world.is_first() {
        return Ok(Done::Well);
    }
    let seconds = start.elapsed().as_secs_f64();

    print_table(&confusion, &classes, args.per_class)?;
    let csv = args.output.as_ref().map(|output| output.join("per_class.csv"));
    if let Some(csv) = &csv {
        write_per_class_csv(csv, &confusion, &classes)?;
        say(format!("scores of each class: {}", shown(csv)));
    }
    let scores = [confusion.mean_iou(), confusion.mean_accuracy(), confusion.pixel_accuracy()];
    let [mean_iou, mean_accuracy, pixel_accuracy] = scores;
    print(format_args!(
        "{} on {}  {}  mIoU {mean_iou:.4}  mAcc {mean_accuracy:.4}  aAcc {pixel_accuracy:.4}",
        loaded.info.method,
        loaded.info.model,
        plural(images, "image"),
    ))?;
    print(json!({
        "mIoU": mean_iou,
        "mAcc": mean_accuracy,
        "aAcc": pixel_accuracy,
        "images": images,
        "seconds": seconds,
        "images_per_second": images as f64 / seconds,
        "model": loaded.info.model,
        "method": loaded.info.method,
        "split": split,
        "output": args.output.as_deref().map(shown),
        "checkpoint": args.checkpoint.checkpoint,
        "data": shown(&args.data),
    }))?;
    Ok(Done::Well)
}

/// The data set must have as many classes as the model; that they go by other names is told.
fn check_classes(args: &EvalArgs, classes: &[String], set: &SegmentationSet) -> Result<(), Error> {
    if classes.len() != set.classes.len() {
        let reason = format!(
            "has {} classes ({}), the model has {}",
            set.classes.len(),
            set.name,
            classes.len()
        );
        return Err(Error::dataset(&args.data, reason));
    }
    let other = classes.iter().zip(&set.classes).find(|(model, set)| model != set);
    if let Some((model, set)) = other {
        say(format!("warning: what the data set calls `{set}`, the model calls `{model}`"));
    }
    Ok(())
}

/// A line for each class: all, or those with the lowest IoU of many.
fn print_table(
    confusion: &PixelConfusion,
    names: &[String],
    show_all: bool,
) -> std::io::Result<()> {
    let mut rows: Vec<(String, ClassIou)> =
        names.iter().map(|name| shorten(name)).zip(confusion.per_class()).collect();
    let total = rows.len();
    let is_cut = total > FEW && !show_all;
    if is_cut {
        rows.sort_by(|(_, a), (_, b)| a.iou().total_cmp(&b.iou())); // NaN last: what does not occur
        rows.truncate(WORST);
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(8);
    print(format_args!("{:<width$}     IoU     Acc      pixels", "class"))?;
    let score = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") };
    for (name, class) in &rows {
        let (iou, accuracy) = (score(class.iou()), score(class.accuracy()));
        print(format_args!("{name:<width$}  {iou:>6}  {accuracy:>6}  {:>10}", class.truth))?;
    }
    if is_cut {
        print(format_args!(
            "… {} classes with a higher IoU: see them with --per-class",
            total - WORST
        ))?;
    }
    print("")
}
