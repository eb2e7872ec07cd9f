//! `biformer predict`

use std::io::{Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::Error;
use biformer::classification::{ClassifierInfo, Prediction, predict};
use biformer::data::{RgbImage, decode, decode_bytes, is_image_file};
use serde::Serialize;
use serde_json::json;

use super::{Done, load, shown};
use crate::args::{Format, PredictArgs};
use crate::device;
use crate::progress::say;

/// Pictures of 224² in one pass of the model; of larger ones, fewer.
const BATCH: usize = 16;
const STDIN: &str = "-";

pub fn run(args: &PredictArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let pictures = list_pictures(&args.pictures)?;
    let loaded = load(&args.checkpoint, &args.transform, &device)?.for_inference_in(precision);
    let mut printer = Printer::new(args.format, &loaded.info, &pictures);
    let mut failures = 0;
    printer.start()?;
    let size = loaded.info.transform.img_size;
    let batch = (BATCH * 224 * 224 / (size * size)).clamp(1, BATCH);
    for paths in pictures.chunks(batch) {
        if stop.load(Ordering::Relaxed) {
            printer.finish()?;
            say(format!("interrupted after {} pictures", printer.printed));
            return Ok(Done::Interrupted);
        }
        let mut readable: Vec<(&PathBuf, RgbImage)> = Vec::new();
        for path in paths {
            match read(path) {
                Ok(image) => readable.push((path, image)),
                Err(error) => {
                    say(format!("error: {error}"));
                    failures += 1;
                }
            }
        }
        let (paths, images): (Vec<_>, Vec<_>) = readable.into_iter().unzip();
        let transform = &loaded.info.transform;
        let best = predict(&loaded.model, &images, transform, args.topk.into(), &device);
        for (path, best) in paths.into_iter().zip(best) {
            printer.print(path, &best)?;
        }
    }
    printer.finish()?;
    Ok(if failures == 0 { Done::Well } else { Done::WithFailures })
}

/// Files as they are, folders and globs spelled out, in sorted order each.
fn list_pictures(sources: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut pictures = Vec::new();
    for source in sources {
        let path = PathBuf::from(source);
        if source == STDIN || path.is_file() {
            pictures.push(path);
        } else if path.is_dir() {
            let before = pictures.len();
            list_folder(&path, &mut pictures)?;
            if pictures.len() == before {
                let reason = "holds no picture (jpg, jpeg, png, webp, gif)";
                return Err(Error::dataset(&path, reason));
            }
        } else {
            let matches: Vec<PathBuf> = glob::glob(source)
                .map(|paths| paths.flatten().filter(|path| path.is_file()).collect())
                .unwrap_or_default();
            if matches.is_empty() {
                let reason = "is no file, no folder, and matches nothing as a glob";
                return Err(Error::dataset(&path, reason));
            }
            pictures.extend(matches);
        }
    }
    Ok(pictures)
}

fn list_folder(folder: &Path, pictures: &mut Vec<PathBuf>) -> Result<(), Error> {
    let io = |source| Error::io("read the folder", folder, source);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        entries.push(entry.map_err(io)?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_file() && is_image_file(&path) {
            pictures.push(path);
        } else if path.is_dir() && !path.is_symlink() {
            list_folder(&path, pictures)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<RgbImage, Error> {
    if path.as_os_str() != STDIN {
        return decode(path);
    }
    let mut bytes = Vec::new();
    stdin().lock().read_to_end(&mut bytes).map_err(|source| Error::io("read", path, source))?;
    decode_bytes(&bytes, Path::new("standard input"))
}

struct Printer<'a> {
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
    fn new(format: Format, info: &'a ClassifierInfo, pictures: &[PathBuf]) -> Self {
        let width = pictures.iter().map(|path| shown(path).chars().count()).max().unwrap_or(0);
        Self { format, info, width, printed: 0 }
    }

    fn start(&self) -> std::io::Result<()> {
        match self.format {
            Format::Json => write!(stdout(), "["),
            Format::Csv => writeln!(stdout(), "file,rank,index,class,probability"),
            Format::Table => Ok(()),
        }
    }

    fn print(&mut self, path: &Path, best: &[Prediction]) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        let class = |prediction: &Prediction| self.info.classes[prediction.class].as_str();
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

    fn finish(&self) -> std::io::Result<()> {
        match self.format {
            Format::Json => writeln!(stdout(), "\n]"),
            Format::Csv | Format::Table => Ok(()),
        }
    }
}
