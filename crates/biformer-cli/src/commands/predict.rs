//! `biformer predict`

use std::io::{Write, sink, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::classification::{ClassifierInfo, Prediction, class_label, predict};
use biformer::distributed::World;
use serde::Serialize;
use serde_json::json;

use super::pictures::{list_pictures, read, refuse_shared_stdin};
use super::{Done, detect, load, segment, shown};
use crate::args::{Format, PredictArgs};
use crate::device;
use crate::progress::say;

/// Pictures of 224² in one pass of the model; of larger ones, fewer.
const BATCH: usize = 16;

pub fn run(args: &PredictArgs, world: &World, stop: &AtomicBool) -> anyhow::Result<Done> {
    let (task, checkpoint, transform) = (args.task, &args.checkpoint, &args.transform);
    if detect::is_meant(task, checkpoint, transform, &args.look, &args.detect)? {
        return detect::predict::run(args, world, stop);
    }
    if segment::is_meant(task, checkpoint, transform, args.look.given())? {
        return segment::predict::run(args, world, stop);
    }
    segment::refuse([("output", args.output.is_some()), ("opacity", args.opacity.is_some())])?;
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let pictures = list_pictures(&args.pictures)?;
    refuse_shared_stdin(&pictures, world)?;
    let loaded = load(&args.checkpoint, &args.transform, &device)?.for_inference_in(precision);
    let out: Box<dyn Write> = if world.is_first() { Box::new(stdout()) } else { Box::new(sink()) };
    let mut printer = Printer::new(out, args.format, &loaded.info, &pictures);
    let mut failures = 0;
    printer.start()?;
    let transform = &loaded.info.transform;
    let size = transform.img_size;
    let batch = (BATCH * 224 * 224 / (size * size)).clamp(1, BATCH);
    let topk = usize::from(args.topk).min(loaded.info.classes.len());
    for paths in pictures.chunks(batch * world.size()) {
        if world.any(stop.load(Ordering::Relaxed)) {
            printer.finish()?;
            if world.is_first() {
                say(format!("interrupted after {} pictures", printer.printed));
            }
            return Ok(Done::Interrupted);
        }
        let (mut images, mut is_readable) = (Vec::new(), Vec::new());
        for path in paths.iter().skip(batch * world.rank()).take(batch) {
            let image = read(path);
            is_readable.push(image.is_ok());
            match image {
                Ok(image) => images.push(image),
                Err(error) => say(format!("error: {error}")),
            }
        }
        let mut best = predict(&loaded.model, &images, transform, topk, &device).into_iter();
        let own = is_readable.into_iter().map(|readable| readable.then(|| best.next()).flatten());
        let all = gather(own.collect(), [batch, topk], world);
        for (path, best) in paths.iter().zip(all) {
            match best {
                Some(best) => printer.print(path, &best)?,
                None => failures += 1,
            }
        }
    }
    printer.finish()?;
    Ok(if failures == 0 { Done::Well } else { Done::WithFailures })
}

/// What all processes predict for up to `batch` pictures each, in order: `topk` classes, or `None`
/// for what could not be read.
fn gather(
    own: Vec<Option<Vec<Prediction>>>,
    [batch, topk]: [usize; 2],
    world: &World,
) -> Vec<Option<Vec<Prediction>>> {
    if world.size() == 1 {
        return own;
    }
    // A row a picture: whether it was read, then pairs of class and probability. The rows of
    // the others are 0, so that the sum has all.
    let width = 1 + 2 * topk;
    let mut rows = vec![0.0; world.size() * batch * width];
    for (row, best) in rows.chunks_mut(width).skip(world.rank() * batch).zip(&own) {
        let Some(best) = best else { continue };
        row[0] = 1.0;
        for (pair, best) in row[1..].chunks_mut(2).zip(best) {
            pair.copy_from_slice(&[best.class as f64, best.probability.into()]);
        }
    }
    world.sum_f64(&mut rows);
    let prediction =
        |pair: &[f64]| Prediction { class: pair[0] as usize, probability: pair[1] as f32 };
    let best = |row: &[f64]| (row[0] > 0.0).then(|| row[1..].chunks(2).map(prediction).collect());
    rows.chunks(width).map(best).collect()
}

struct Printer<'a> {
    out: Box<dyn Write>,
    format: Format,
    info: &'a ClassifierInfo,
    width: usize,
    printed: usize,
}

#[derive(Serialize)]
struct CsvRow<'a> {
    file: String,
    rank: usize,
    index: usize,
    class: &'a str,
    probability: f32,
}

impl<'a> Printer<'a> {
    fn new(
        out: Box<dyn Write>,
        format: Format,
        info: &'a ClassifierInfo,
        pictures: &[PathBuf],
    ) -> Self {
        let width = pictures.iter().map(|path| shown(path).chars().count()).max().unwrap_or(0);
        Self { out, format, info, width, printed: 0 }
    }

    fn start(&mut self) -> std::io::Result<()> {
        match self.format {
            Format::Json => write!(self.out, "["),
            Format::Csv => writeln!(self.out, "file,rank,index,class,probability"),
            Format::Table => Ok(()),
        }
    }

    fn print(&mut self, path: &Path, best: &[Prediction]) -> anyhow::Result<()> {
        let out = &mut self.out;
        let class = |prediction: &Prediction| class_label(&self.info.classes[prediction.class]);
        match self.format {
            Format::Table => {
                for (rank, prediction) in best.iter().enumerate() {
                    let file = if rank == 0 { shown(path) } else { String::new() };
                    let percent = 100.0 * prediction.probability;
                    writeln!(
                        out,
                        "{file:<width$}  {percent:>6.2} %  {}",
                        class(prediction),
                        width = self.width
                    )?;
                }
            }
            Format::Json => {
                let predictions: Vec<_> = best
                    .iter()
                    .map(|p| {
                        json!({ "index": p.class, "class": class(p), "probability": p.probability })
                    })
                    .collect();
                let separator = if self.printed == 0 { "" } else { "," };
                let entry = json!({ "file": shown(path), "predictions": predictions });
                write!(out, "{separator}\n  {entry}")?;
            }
            Format::Csv => {
                let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
                for (rank, p) in best.iter().enumerate() {
                    csv.serialize(CsvRow {
                        file: shown(path),
                        rank: rank + 1,
                        index: p.class,
                        class: class(p),
                        probability: p.probability,
                    })?;
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
