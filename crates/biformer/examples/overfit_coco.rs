//! Trains a detector on eight pictures of a COCO set alone, and prints COCO's scores on the same eight after every
//! twenty steps: what learns must come to know them by heart.
//!
//! ```text
//! cargo run --release --example overfit_coco -- path/to/coco_small
//! ```
//!
//! The folder holds `annotations/instances_train.json` and `train`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use biformer::train::{Event, Recipe, RunFolder, train};
use biformer::{Error, Result};
use burn::tensor::Device;
use serde_json::{Value, json};

/// Pictures to learn.
const PICTURES: usize = 8;
/// How often each is listed, so that a validation comes after twenty steps and not after two.
const REPEATS: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root] = arguments.as_slice() else {
        eprintln!("usage: overfit_coco DIR");
        return ExitCode::from(2);
    };
    match overfit(Path::new(root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn overfit(root: &Path) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| Error::io("create", "a folder", error))?;
    let set = write_set(root, folder.path())?;
    let recipe = Recipe {
        model: "biformer_nano".to_owned(),
        data: Some(root.to_owned()),
        dataset: Some(set),
        initial_checkpoint: Some("biformer_nano.imagenette".into()),
        neck_channels: 64,
        head_channels: 64,
        stacked_convs: 2,
        lr: 2e-3,
        lr_steps: vec![32, 38],
        epochs: 40,
        hflip: 0.0,
        warmup_iters: 20,
        clip_grad: 10.0,
        ..Recipe::detection()
    };
    let run = RunFolder::new(&folder.path().join("run"))?;
    let mut observe = |event: Event<'_>| {
        if let Event::Epoch(epoch) = event {
            let scores = epoch.scores.named();
            let scores: Vec<_> = scores.iter().map(|(name, s)| format!("{name} {s:.3}")).collect();
            println!(
                "epoch {:>2}  loss {:.3}  {}",
                epoch.epoch,
                epoch.train_loss,
                scores.join("  ")
            );
        }
    };
    train(&run, &recipe, false, &Device::default(), &AtomicBool::new(false), &mut observe)?;
    Ok(())
}

/// The definition of a set that learns, and is judged by, the first pictures with something marked in them.
fn write_set(root: &Path, folder: &Path) -> Result<String> {
    let path = root.join("annotations/instances_train.json");
    let text = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
    let all: Value = serde_json::from_slice(&text).map_err(|error| Error::dataset(&path, error))?;
    let list = |key: &str| all[key].as_array().cloned().unwrap_or_default();
    let (images, annotations) = (list("images"), list("annotations"));
    let of_image = |image: &Value| -> Vec<Value> {
        let is_there = |thing: &&Value| thing["image_id"] == image["id"] && thing["iscrowd"] == 0;
        annotations.iter().filter(is_there).cloned().collect()
    };
    let marked: Vec<(Value, Vec<Value>)> = images
        .iter()
        .map(|image| (image.clone(), of_image(image)))
        .filter(|(_, things)| !things.is_empty())
        .take(PICTURES)
        .collect();
    for (split, repeats) in [("train", REPEATS), ("val", 1)] {
        let (mut images, mut things) = (Vec::new(), Vec::new());
        for (image, of_image) in marked.iter().cycle().take(repeats * marked.len()) {
            let id = images.len() + 1;
            let renamed = |value: &Value, key: &str, id: usize| {
                let mut value = value.clone();
                value[key] = id.into();
                value
            };
            images.push(renamed(image, "id", id));
            for thing in of_image {
                things.push(renamed(&renamed(thing, "image_id", id), "id", things.len() + 1));
            }
        }
        let instances =
            json!({"images": images, "annotations": things, "categories": all["categories"]});
        write(&folder.join(format!("{split}.json")), &instances.to_string())?;
    }
    let part = |split: &str| {
        let annotations = folder.join(format!("{split}.json"));
        format!(
            "[splits.{split}]\nimages = \"train\"\nannotations = {:?}\n",
            annotations.display().to_string()
        )
    };
    let definition = folder.join("dataset.toml");
    write(&definition, &format!("name = \"eight\"\n{}{}", part("train"), part("val")))?;
    Ok(definition.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::io("write", path, error))
}
