//! `biformer eval` of a detector: COCO's average precision, of all classes and one by one.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use biformer::Error;
use biformer::data::DataLoader;
use biformer::data::detection::{
    Category, CocoResult, DetectionFolder, DetectionSet, write_results,
};
use biformer::detection::{
    ClassScores, CocoScores, DetectOptions, Detected, FoundInstance, evaluate, write_per_class_csv,
};
use biformer::distributed::World;
use serde_json::{Map, Value, json};

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
    let threshold = DetectOptions::default().score_threshold;
    let inference = inference(&args.look, &args.detect, loaded.info.resize, threshold)?;
    let set = DetectionSet::find(&args.data, args.dataset.as_deref().map(Path::new))?;
    let split = args.split.as_deref().unwrap_or("val");
    let folder = DetectionFolder::open_boxes(&args.data, &set, split)?;
    check_classes(&folder, &loaded.info.classes)?;
    let (classes, images) = (folder.class_names(), folder.samples.len());
    if let Some(output) = &args.output {
        // Before the work: a folder that cannot be written is known at once.
        fs::create_dir_all(output).map_err(|e| Error::io("create the folder", output, e))?;
    }
    let loader = DataLoader { shard: world.shard(), ..DataLoader::new(folder.samples, 1) };

    let start = Instant::now();
    let mut progress = Progress::new();
    let (mut done, mut results) = (0, Vec::new());
    let model = loaded.model.for_inference_in(precision);
    let found = evaluate(&model, loader, &inference, &device, |batch| {
        done += batch.of;
        if args.output.is_some() {
            results.extend(batch.pictures.iter().flat_map(|seen| rows(seen, &folder.categories)));
        }
        if world.is_first() {
            progress.count("eval", done, images, "");
        }
        unless_stopped(world, stop)
    });
    progress.finish();
    let Some(found) = found? else {
        if world.is_first() {
            say(format!("interrupted after {done} of {}", plural(images, "image")));
        }
        return Ok(Done::Interrupted);
    };
    let scores = found.over(world).scores();
    if !world.is_first() {
        return Ok(Done::Well);
    }
    let seconds = start.elapsed().as_secs_f64();

    print_table(&scores, &classes, args.per_class)?;
    if let Some(output) = &args.output {
        write_per_class_csv(&output.join("per_class.csv"), &classes, &scores, None)?;
        if world.size() == 1 {
            write_results(&output.join("results.json"), &results)?;
            say(format!("results.json and per_class.csv: {}", shown(output)));
        } else {
            let reason = "results.json needs one process, which sees all pictures";
            say(format!("per_class.csv: {}; {reason}", shown(output)));
        }
    }
    let summary: Vec<_> =
        scores.named()[..6].iter().map(|(name, score)| format!("{name} {score:.4}")).collect();
    print(format_args!(
        "{} on {}  {}  {}",
        loaded.info.method,
        loaded.info.model,
        plural(images, "image"),
        summary.join("  ")
    ))?;
    let mut line: Map<String, Value> = named(&scores, "bbox").collect();
    let more = json!({
        "images": images,
        "seconds": seconds,
        "images_per_second": images as f64 / seconds,
        "model": loaded.info.model,
        "method": loaded.info.method,
        "split": split,
        "output": args.output.as_deref().map(shown),
        "checkpoint": args.checkpoint.checkpoint,
        "data": shown(&args.data),
    });
    line.extend(more.as_object().cloned().unwrap_or_default());
    print(Value::from(line))?;
    Ok(Done::Well)
}

/// The data set must have as many classes as the model; that they go by other names is told.
fn check_classes(folder: &DetectionFolder, classes: &[String]) -> Result<(), Error> {
    let found = folder.class_names();
    if classes.len() != found.len() {
        let reason = format!("has {} categories, the model has {}", found.len(), classes.len());
        return Err(Error::dataset(&folder.annotations, reason));
    }
    if let Some((model, set)) = classes.iter().zip(&found).find(|(model, set)| model != set) {
        say(format!("warning: what the data set calls `{set}`, the model calls `{model}`"));
    }
    Ok(())
}

/// What was found in a picture, as COCO's tools read it.
fn rows(seen: &Detected<'_>, categories: &[Category]) -> Vec<CocoResult> {
    let row = |found| {
        let FoundInstance { label, bbox, score, mask } = FoundInstance::from(found);
        let category_id = categories[label].id;
        CocoResult { image_id: seen.sample.id, category_id, bbox, score, segmentation: mask }
    };
    seen.found.iter().map(row).collect()
}

/// The scores under mmdetection's names, `bbox_mAP` and so on.
fn named(scores: &CocoScores, kind: &str) -> impl Iterator<Item = (String, Value)> {
    const NAMES: [&str; 12] = [
        "mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l", "AR@1", "AR@10", "AR@100",
        "AR_s@100", "AR_m@100", "AR_l@100",
    ];
    let scores = NAMES.into_iter().zip(scores.named());
    let named = scores.map(move |(name, (_, score))| (format!("{kind}_{name}"), json!(score)));
    named.collect::<Vec<_>>().into_iter()
}

/// A line for each class: all, or those with the lowest AP of many.
fn print_table(scores: &CocoScores, names: &[String], show_all: bool) -> std::io::Result<()> {
    let mut rows: Vec<(String, &ClassScores)> =
        names.iter().map(|name| shorten(name)).zip(&scores.classes).collect();
    let total = rows.len();
    let is_cut = total > FEW && !show_all;
    if is_cut {
        rows.sort_by(|(_, a), (_, b)| a.ap().total_cmp(&b.ap())); // NaN last: what does not occur
        rows.truncate(WORST);
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(8);
    print(format_args!("{:<width$}      AP    AP50    AP75   AR100  truths", "class"))?;
    let score = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") };
    for (name, class) in &rows {
        let cells = [class.ap(), class.ap50(), class.ap75(), class.ar100()].map(score);
        let [ap, ap50, ap75, ar100] = cells;
        let truths = class.truths;
        print(format_args!(
            "{name:<width$}  {ap:>6}  {ap50:>6}  {ap75:>6}  {ar100:>6}  {truths:>6}"
        ))?;
    }
    if is_cut {
        let left_out = total - WORST;
        print(format_args!("… {left_out} classes with a higher AP: see them with --per-class"))?;
    }
    print("")
}
