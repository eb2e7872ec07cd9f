//! `biformer predict` with a segmentor: pictures with their classes over them, label maps, and the area of
//! each class.

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::Error;
use biformer::data::RgbImage;
use biformer::data::segmentation::{SegMap, class_areas, write_seg_map};
use biformer::distributed::World;
use biformer::segmentation::{SegmentorInfo, segment};
use biformer::visualize::{draw_segmentation, write_png};
use serde::Serialize;
use serde_json::json;

use super::super::pictures::{free_name, list_pictures, read};
use super::super::{Done, next_free, plural, shown};
use super::{inference, load};
use crate::args::{Format, PredictArgs};
use crate::device;
use crate::progress::say;

pub fn run(args: &PredictArgs, world: &World, stop: &AtomicBool) -> anyhow::Result<Done> {
    if world.size() > 1 {
        let reason = "`predict` with a segmentor shares no work: start it without mpirun";
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
    let inference = inference(&args.look, loaded.info.resize)?;
    let model = loaded.model.for_inference_in(precision);
    let forward = |x| model.forward(x);
    let output = args.output.clone().unwrap_or_else(|| next_free("runs/predict"));
    let labels = output.join("labels");
    std::fs::create_dir_all(&labels).map_err(|e| Error::io("create the folder", &labels, e))?;
    let info = &loaded.info;
    let mut printer = Printer { out: Box::new(stdout()), format: args.format, info, printed: 0 };
    let (mut names, mut failures, mut interrupted) = (BTreeSet::new(), 0, false);
    printer.start()?;
    for path in &pictures {
        interrupted = stop.load(Ordering::Relaxed);
        if interrupted {
            break;
        }
        let found = read(path).and_then(|image| {
            let map = segment(&forward, &image, &inference, &device)?;
            Ok((image, map))
        });
        match found {
            Ok((image, map)) => {
                let name = free_name(path, &names, &[]);
                let files = write(&output, &name, &image, &map, info, opacity)?;
                names.insert(name);
                printer.print(path, &map, &files)?;
            }
            Err(error) => {
                say(format!("error: {error}"));
                failures += 1;
            }
        }
    }
    printer.finish()?;
    say(format!("{} → {}", plural(names.len(), "picture"), shown(&output)));
    Ok(match (interrupted, failures) {
        (true, _) => Done::Interrupted,
        (_, 0) => Done::Well,
        _ => Done::WithFailures,
    })
}

/// What was written of a picture.
struct Files {
    overlay: PathBuf,
    labels: PathBuf,
}

fn write(
    output: &Path,
    name: &str,
    image: &RgbImage,
    map: &SegMap,
    info: &SegmentorInfo,
    opacity: f32,
) -> Result<Files, Error> {
    let SegmentorInfo { classes, palette, .. } = info;
    let files = Files {
        overlay: output.join(format!("{name}.png")),
        labels: output.join("labels").join(format!("{name}.png")),
    };
    write_png(&files.overlay, &draw_segmentation(image, map, classes, palette, opacity))?;
    write_seg_map(&files.labels, map, palette)?;
    Ok(files)
}

struct Printer<'a> {
    out: Box<dyn Write>,
    format: Format,
    info: &'a SegmentorInfo,
    printed: usize,
}

#[derive(Serialize)]
struct ClassArea<'a> {
    index: usize,
    class: &'a str,
    area: f64,
}

impl Printer<'_> {
    fn start(&mut self) -> std::io::Result<()> {
        match self.format {
            Format::Json => write!(self.out, "["),
            Format::Csv => writeln!(self.out, "file,index,class,area"),
            Format::Table => Ok(()),
        }
    }

    /// The classes that occur, largest first.
    fn print(&mut self, path: &Path, map: &SegMap, files: &Files) -> anyhow::Result<()> {
        let names = &self.info.classes;
        let areas = class_areas(map, names.len()).into_iter().zip(names).enumerate();
        let areas = areas.map(|(index, (area, class))| ClassArea { index, class, area });
        let mut areas: Vec<_> = areas.filter(|class| class.area > 0.0).collect();
        areas.sort_by(|a, b| b.area.total_cmp(&a.area));
        let (file, out) = (shown(path), &mut self.out);
        match self.format {
            Format::Table => {
                writeln!(out, "{file}")?;
                for ClassArea { class, area, .. } in areas {
                    writeln!(out, "  {:>6.2} %  {class}", 100.0 * area)?;
                }
            }
            Format::Json => {
                let separator = if self.printed == 0 { "" } else { "," };
                let entry = json!({
                    "file": file,
                    "overlay": shown(&files.overlay),
                    "labels": shown(&files.labels),
                    "classes": areas,
                });
                write!(out, "{separator}\n  {entry}")?;
            }
            Format::Csv => {
                let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
                for ClassArea { index, class, area } in areas {
                    csv.serialize((&file, index, class, area))?;
                }
                csv.flush()?;
            }
        }
        self.printed += 1;
        Ok(())
    }

    fn finish(&mut self) -> std::io::Result<()> {
        match self.format {
            Format::Json => writeln!(self.out, "\n]"),
            Format::Csv | Format::Table => Ok(()),
        }
    }
}
