//! `biformer eval` of a detector: COCO's average precision, of all classes and one by one; of boxes, and of
//! masks where the model draws them.

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
    AveragePrecision, CocoScores, DetectOptions, DetectedBatch, FoundInstance, IouType, evaluate,
    write_per_class_csv,
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
    let folder = DetectionFolder::open(&args.data, &set, split)?;
    check_classes(&folder, &loaded.info.classes)?;
    let (classes, images) = (folder.class_names(), folder.samples.len());
    if let Some(output) = &args.output {
        // Before the work: a folder that cannot be written is known at once.
        fs::create_dir_all(output).map_err(|e| Error::io("create the folder", output, e))?;
    }
    let loader = DataLoader { shard: world.shard(), ..DataLoader::new(folder.samples, 1) };

    let start = Instant::now();
    let mut progress = Progress::new();
    let mut done = 0;
    let mut seen = Seen::new(classes.len());
    let model = loaded.model.for_inference_in(precision);
    let found = evaluate(&model, loader, &inference, &device, |batch| {
        done += batch.of;
        seen.add(batch, &folder.categories);
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
    let (masks, results) = seen.end(world);
    if !world.is_first() {
        return Ok(Done::Well);
    }
    let seconds = start.elapsed().as_secs_f64();

    print_table(&scores, masks.as_ref(), &classes, args.per_class)?;
    if let Some(output) = &args.output {
        write_per_class_csv(&output.join("per_class.csv"), &classes, &scores, masks.as_ref())?;
        if world.size() == 1 {
            write_results(&output.join("results.json"), &results)?;
            say(format!("results.json and per_class.csv: {}", shown(output)));
        } else {
            let reason = "results.json needs one process, which sees all pictures";
            say(format!("per_class.csv: {}; {reason}", shown(output)));
        }
    }
    print(format_args!(
        "{} on {}  {}  {}",
        loaded.info.method,
        loaded.info.model,
        plural(images, "image"),
        summary(&scores)
    ))?;
    let mut line: Map<String, Value> = named(&scores, "bbox").collect();
    if let Some(masks) = &masks {
        print(format_args!("masks  {}", summary(masks)))?;
        line.extend(named(masks, "segm"));
    }
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

/// What was found beside the scores of boxes.
struct Seen {
    /// As COCO's tools read it.
    results: Vec<CocoResult>,
    masks: AveragePrecision,
    has_masks: bool,
}

impl Seen {
    fn new(classes: usize) -> Self {
        let masks = AveragePrecision::new(classes, IouType::Segm);
        Self { results: Vec::new(), masks, has_masks: false }
    }

    fn add(&mut self, batch: &DetectedBatch<'_>, categories: &[Category]) {
        for picture in &batch.pictures {
            let (sample, found) = (picture.sample, picture.found.iter().map(FoundInstance::from));
            let found: Vec<FoundInstance> = found.collect();
            if found.iter().all(|thing| thing.mask.is_some()) {
                self.masks.update(sample.id, sample.size, &sample.instances, &found);
                self.has_masks |= !found.is_empty();
            }
            self.results.extend(found.into_iter().map(|thing| CocoResult {
                image_id: sample.id,
                category_id: categories[thing.label].id,
                bbox: thing.bbox,
                score: thing.score,
                segmentation: thing.mask,
            }));
        }
    }

    /// The scores of masks over all processes, if there are masks, and what this one found.
    fn end(self, world: &World) -> (Option<CocoScores>, Vec<CocoResult>) {
        let has_masks = world.any(self.has_masks);
        (has_masks.then(|| self.masks.over(world).scores()), self.results)
    }
}

/// The precisions in a line.
fn summary(scores: &CocoScores) -> String {
    let named = scores.named().into_iter().take(6);
    named
        .map(|(name, score)| format!("{name} {}", shown_score(score)))
        .collect::<Vec<_>>()
        .join("  ")
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

/// Four places, or a dash where nothing is to be scored.
fn shown_score(score: f64) -> String {
    if score.is_nan() { "-".to_owned() } else { format!("{score:.4}") }
}

/// A line for each class: all, or those with the lowest AP of many.
fn print_table(
    scores: &CocoScores,
    masks: Option<&CocoScores>,
    names: &[String],
    show_all: bool,
) -> std::io::Result<()> {
    let mut rows: Vec<usize> = (0..names.len()).collect();
    let is_cut = names.len() > FEW && !show_all;
    if is_cut {
        let ap = |label: usize| scores.classes[label].ap();
        rows.sort_by(|&a, &b| ap(a).total_cmp(&ap(b))); // NaN last: what does not occur
        rows.truncate(WORST);
    }
    let shown: Vec<String> = names.iter().map(|name| shorten(name)).collect();
    let width = rows.iter().map(|&row| shown[row].chars().count()).max().unwrap_or(0).max(8);
    let more = if masks.is_some() { " mask AP    AP50" } else { "" };
    print(format_args!("{:<width$}  truths      AP    AP50    AP75   AR100{more}", "class"))?;
    for label in rows {
        let class = &scores.classes[label];
        let mut cells = vec![class.ap(), class.ap50(), class.ap75(), class.ar100()];
        if let Some(masks) = masks {
            cells.extend([masks.classes[label].ap(), masks.classes[label].ap50()]);
        }
        let cells = cells.into_iter().map(|score| format!("  {:>6}", shown_score(score)));
        let (name, cells) = (&shown[label], cells.collect::<String>());
        print(format_args!("{name:<width$}  {:>6}{cells}", class.truths))?;
    }
    if is_cut {
        let left_out = names.len() - WORST;
        print(format_args!("… {left_out} classes with a higher AP: see them with --per-class"))?;
    }
    print("")
}
