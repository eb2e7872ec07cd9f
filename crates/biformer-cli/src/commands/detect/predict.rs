//! `biformer predict` with a detector: pictures with what was found drawn over them, and lists of it.

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::Error;
use biformer::data::RgbImage;
use biformer::detection::{FoundInstance, detect};
use biformer::distributed::World;
use biformer::visualize::{DrawnInstance, draw_instances, instance_palette, write_png, write_text};
use serde_json::{Value, json};

use super::super::pictures::{free_name, list_pictures, read};
use super::super::{Done, next_free, plural, shown};
use super::{inference, load};
use crate::args::{Format, PredictArgs};
use crate::device;
use crate::progress::say;

/// Scores above it are shown, if no flag says another: below it most are wrong.
const SCORE_THRESHOLD: f32 = 0.3;

/// The file of all that was found, beside the drawings.
const FILE: &str = "predictions.json";

pub fn run(args: &PredictArgs, world: &World, stop: &AtomicBool) -> anyhow::Result<Done> {
    if world.size() > 1 {
        let reason = "`predict` with a detector shares no work: start it without mpirun";
        return Err(Error::Processes(reason.to_owned()).into());
    }
    let opacity = args.opacity.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&opacity) {
        return Err(Error::option("opacity", format!("must be from 0 to 1, got {opacity}")).into());
    }
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let pictures = list_pictures(&args.pictures)?;
    let loaded = load(&args.checkpoint, &device)?;
    let inference = inference(&args.look, &args.detect, loaded.info.resize, SCORE_THRESHOLD)?;
    let model = loaded.model.for_inference_in(precision);
    let output = args.output.clone().unwrap_or_else(|| next_free("runs/predict"));
    std::fs::create_dir_all(&output).map_err(|e| Error::io("create the folder", &output, e))?;
    let classes = &loaded.info.classes;
    let (mut names, mut failures, mut interrupted) = (BTreeSet::new(), 0, false);
    let mut entries = Vec::new();
    if args.format == Format::Csv {
        writeln!(stdout(), "file,index,class,score,left,top,right,bottom")?;
    }
    for path in &pictures {
        interrupted = stop.load(Ordering::Relaxed);
        if interrupted {
            break;
        }
        let found = read(path).and_then(|image| {
            let found = detect(&model, &image, &inference, &device)?;
            Ok((image, found.iter().map(FoundInstance::from).collect::<Vec<_>>()))
        });
        match found {
            Ok((image, found)) => {
                let name = free_name(path, &names, &[]);
                let drawing = output.join(format!("{name}.png"));
                write_png(&drawing, &draw(&image, &found, classes, opacity))?;
                names.insert(name);
                print_found(args.format, path, &found, classes)?;
                entries.push(entry(path, &drawing, &found, classes));
            }
            Err(error) => {
                say(format!("error: {error}"));
                failures += 1;
            }
        }
    }
    let text = lines(&entries);
    write_text(&output.join(FILE), &text)?;
    if args.format == Format::Json {
        write!(stdout(), "{text}")?;
    }
    say(format!("{} and {FILE} → {}", plural(names.len(), "picture"), shown(&output)));
    Ok(match (interrupted, failures) {
        (true, _) => Done::Interrupted,
        (_, 0) => Done::Well,
        _ => Done::WithFailures,
    })
}

/// The picture with what was found, the surest on top.
fn draw(image: &RgbImage, found: &[FoundInstance], classes: &[String], opacity: f32) -> RgbImage {
    let palette = instance_palette(classes.len());
    let things = found.iter().rev().map(|thing| DrawnInstance {
        bbox: corners(thing),
        name: &classes[thing.label],
        score: Some(thing.score as f32),
        mask: thing.mask.as_ref(),
        color: palette[thing.label],
    });
    draw_instances(image, &things.collect::<Vec<_>>(), opacity)
}

/// A line for each thing, surest first; JSON comes at the end.
fn print_found(
    format: Format,
    path: &Path,
    found: &[FoundInstance],
    classes: &[String],
) -> anyhow::Result<()> {
    let (file, mut out) = (shown(path), stdout());
    match format {
        Format::Table => {
            writeln!(out, "{file}")?;
            for thing in found {
                let [left, top, right, bottom] = corners(thing).map(f32::round);
                let (percent, class) = (100.0 * thing.score, &classes[thing.label]);
                writeln!(out, "  {percent:>6.2} %  {class}  {left},{top} to {right},{bottom}")?;
            }
        }
        Format::Csv => {
            let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
            for thing in found {
                let (label, score) = (thing.label, thing.score as f32);
                csv.serialize((&file, label, &classes[label], score, corners(thing)))?;
            }
            csv.flush()?;
        }
        Format::Json => {}
    }
    Ok(())
}

/// What was found in a picture; boxes are left, top, right and bottom in pixels.
fn entry(path: &Path, drawing: &Path, found: &[FoundInstance], classes: &[String]) -> Value {
    let detection = |thing: &FoundInstance| {
        let mut entry = json!({
            "index": thing.label,
            "class": classes[thing.label],
            "score": thing.score as f32,
            "bbox": corners(thing),
        });
        if let Some(mask) = &thing.mask {
            entry["segmentation"] = json!(mask);
        }
        entry
    };
    let detections: Vec<_> = found.iter().map(detection).collect();
    json!({ "file": shown(path), "drawing": shown(drawing), "detections": detections })
}

/// Left, top, right and bottom in pixels.
fn corners(thing: &FoundInstance) -> [f32; 4] {
    let [left, top, width, height] = thing.bbox;
    [left, top, left + width, top + height].map(|at| at as f32)
}

/// A list with a line for each picture.
fn lines(entries: &[Value]) -> String {
    let entries: Vec<String> = entries.iter().map(|entry| format!("\n  {entry}")).collect();
    format!("[{}\n]\n", entries.join(","))
}
