//! `biformer label-maps`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use biformer::Error;
use biformer::classification::{CELL, annotator_columns, weights_id, write_label_maps};
use biformer::data::{ImageFolder, LabelMaps, LabelMapsInfo, Split, split_folder};
use serde_json::json;

use super::{Done, load, plural, print, shown};
use crate::args::{LabelMapsArgs, TransformArgs};
use crate::device;
use crate::progress::{Progress, say};

pub fn run(args: &LabelMapsArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let unchanged = TransformArgs { img_size: None, crop_pct: None };
    let loaded = load(&args.checkpoint, &unchanged, &device)?;
    let root = train_folder(&args.data)?;
    let folder = ImageFolder::open(&root)?;
    let columns = annotator_columns(&loaded.info, &folder.classes)?;
    let side = args.grid.map_or(loaded.info.transform.img_size.div_ceil(CELL), usize::from);
    let info = LabelMapsInfo {
        annotator: format!("{} {}", loaded.info.model, weights_id(&loaded.model)),
        grid: [side; 2],
        classes: folder.classes,
    };
    let maps = LabelMaps::create(&args.output, &root, info)?;
    let pictures = folder.samples.len();
    let all = folder.samples.into_iter().map(|(picture, _)| picture);
    let missing: Vec<_> = all.filter(|picture| !maps.path(picture.path()).exists()).collect();

    let start = Instant::now();
    let mut progress = Progress::new();
    let (mut done, mut skipped) = (0, 0);
    let model = loaded.model.for_inference();
    let batch_size = args.batch_size.into();
    let ended =
        write_label_maps(&model, &columns, &missing, &maps, batch_size, &device, |batch| {
            progress.count("label maps", done, missing.len(), "");
            if stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            for (_, reason) in &batch.skipped {
                progress.line(format!("warning: skipped: {reason}"));
            }
            done += batch.labels.len() + batch.skipped.len();
            skipped += batch.skipped.len();
            ControlFlow::Continue(())
        })?;
    progress.finish();
    if ended.is_break() {
        let of = plural(missing.len(), "picture");
        say(format!("interrupted after {done} of {of}; the same command goes on"));
        return Ok(Done::Interrupted);
    }
    let line = json!({
        "images": pictures,
        "written": missing.len() - skipped,
        "skipped": skipped,
        "grid": side,
        "annotator": maps.info.annotator,
        "seconds": start.elapsed().as_secs_f64(),
        "output": shown(&args.output),
    });
    print(line)?;
    Ok(Done::Well)
}

/// A data set with a `train` folder, or the folder of classes itself.
fn train_folder(data: &Path) -> Result<PathBuf, Error> {
    match split_folder(data, Split::Train) {
        Ok(folder) => Ok(folder),
        Err(_) if data.exists() => Ok(data.to_owned()),
        Err(error) => Err(error),
    }
}
