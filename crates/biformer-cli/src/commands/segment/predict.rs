//! `biformer predict` with a segmentor: pictures with their classes over them, label maps, and the area of
//! each class.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Write, sink, stdout};
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

use super::super::pictures::{free_name, list_pictures, read, refuse_shared_stdin};
use super::super::{Done, next_free, plural, shown};
use super::{inference, load};
use crate::args::{Format, PredictArgs};
use crate::device;
use crate::progress::say;

pub fn run(args: &PredictArgs, world: &World, stop: &AtomicBool) -> anyhow::Result<Done> {
    let opacity = args.opacity.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&opacity) {
        return Err(Error::option("opacity", format!("must be from 0 to 1, got {opacity}")).into());
    }
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let pictures = list_pictures(&args.pictures)?;
    refuse_shared_stdin(&pictures, world)?;
    let loaded = load(&args.checkpoint, &device)?;
    let inference = inference(&args.look, loaded.info.resize)?;
    let model = loaded.model.for_inference_in(precision);
    let forward = |x| model.forward(x);
    let output = args.output.clone().unwrap_or_else(|| next_free("runs/predict"));
    // And nobody makes the folder before all have found it to be free.
    world.agree("folder to write to", hash(&output))?;
    let labels = output.join("labels");
    std::fs::create_dir_all(&labels).map_err(|e| Error::io("create the folder", &labels, e))?;
    let files = files(&output, &pictures);
    let info = &loaded.info;
    let out: Box<dyn Write> = if world.is_first() { Box::new(stdout()) } else { Box::new(sink()) };
    let mut printer = Printer { out, format: args.format, info, printed: 0 };
    let (mut failures, mut interrupted) = (0, false);
    printer.start()?;
    for (paths, files) in pictures.chunks(world.size()).zip(files.chunks(world.size())) {
        interrupted = world.any(stop.load(Ordering::Relaxed));
        if interrupted {
            break;
        }
        let mut own = None;
        if let (Some(path), Some(files)) = (paths.get(world.rank()), files.get(world.rank())) {
            let found = read(path).and_then(|image| {
                let map = segment(&forward, &image, &inference, &device)?;
                Ok((image, map))
            });
            match found {
                Ok((image, map)) => {
                    write(files, &image, &map, info, opacity)?;
                    own = Some(class_areas(&map, info.classes.len()));
                }
                Err(error) => say(format!("error: {error}")),
            }
        }
        let all = gather(own, info.classes.len(), world);
        for ((path, files), areas) in paths.iter().zip(files).zip(all) {
            match areas {
                Some(areas) => printer.print(path, &areas, files)?,
                None => failures += 1,
            }
        }
    }
    printer.finish()?;
    if world.is_first() {
        say(format!("{} → {}", plural(printer.printed, "picture"), shown(&output)));
    }
    Ok(match (interrupted, failures) {
        (true, _) => Done::Interrupted,
        (_, 0) => Done::Well,
        _ => Done::WithFailures,
    })
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The areas of the classes in the pictures of all processes, one each, in order; `None` of what could not be
/// read.
fn gather(own: Option<Vec<f64>>, classes: usize, world: &World) -> Vec<Option<Vec<f64>>> {
    // A row a process: whether there is a picture, then the areas. The rows of the others are 0, so
    // that the sum has all.
    let width = 1 + classes;
    let mut rows = vec![0.0; world.size() * width];
    if let Some(areas) = own {
        let row = &mut rows[world.rank() * width..][..width];
        row[0] = 1.0;
        row[1..].copy_from_slice(&areas);
    }
    world.sum_f64(&mut rows);
    rows.chunks(width).map(|row| (row[0] > 0.0).then(|| row[1..].to_vec())).collect()
}

/// What is written of a picture.
struct Files {
    overlay: PathBuf,
    labels: PathBuf,
}

/// Named after the pictures.
fn files(output: &Path, pictures: &[PathBuf]) -> Vec<Files> {
    let mut names = BTreeSet::new();
    let files = |path: &PathBuf| {
        let name = free_name(path, &names, &[]);
        let files = Files {
            overlay: output.join(format!("{name}.png")),
            labels: output.join("labels").join(format!("{name}.png")),
        };
        names.insert(name);
        files
    };
    pictures.iter().map(files).collect()
}

fn write(
    files: &Files,
    image: &RgbImage,
    map: &SegMap,
    info: &SegmentorInfo,
    opacity: f32,
) -> Result<(), Error> {
    let SegmentorInfo { classes, palette, .. } = info;
    write_png(&files.overlay, &draw_segmentation(image, map, classes, palette, opacity))?;
    write_seg_map(&files.labels, map, palette)
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
    fn print(&mut self, path: &Path, areas: &[f64], files: &Files) -> anyhow::Result<()> {
        let areas = areas.iter().zip(&self.info.classes).enumerate();
        let areas = areas.map(|(index, (&area, class))| ClassArea { index, class, area });
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
