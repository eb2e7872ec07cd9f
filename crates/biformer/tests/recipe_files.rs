//! The recipes in `recipes/`: each says every value, and trains.

mod drawn_maps;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use biformer::attention::STL_NAMES;
use biformer::data::segmentation::SegmentationSet;
use biformer::data::shapes::{
    CLASSES, ObjectsConfig, ShapesConfig, write_detection_folder, write_image_folder,
    write_segmentation_folder,
};
use biformer::models::BackboneConfig;
use biformer::train::{Event, Outcome, Recipe, RunFolder, Task, train};
use biformer::{Precision, check_precision};
use burn::tensor::Device;

fn recipes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let entries = fs::read_dir(&folder).expect("the folder of the recipes");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut recipes: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    recipes.sort();
    assert!(recipes.len() >= 50, "{recipes:?}");
    recipes
}

/// A recipe must mean the same when the defaults have changed.
#[test]
fn every_value_is_written_out() {
    for path in recipes() {
        let text = fs::read_to_string(&path).expect("a readable recipe");
        let Recipe { task, .. } = Recipe::read(&path).expect("a recipe");
        let all = Recipe { task, ..Recipe::default() }.text();
        let all: toml::Table = toml::from_str(&all).expect("TOML");
        let found: toml::Table = toml::from_str(&text).expect("TOML");
        let missing: Vec<_> = all.keys().filter(|key| !found.contains_key(*key)).collect();
        assert!(missing.is_empty(), "{} lacks {missing:?}", path.display());
        for line in ["# Run: ", "# Measured: "] {
            assert!(text.contains(line), "{} lacks `{line}`", path.display());
        }
    }
}

/// A small model of the same layout: all those of up to 120 M parameters would take minutes.
fn narrow(model: &str) -> String {
    match model {
        "biformer_tiny" | "biformer_small" | "biformer_base" => "biformer_nano".to_owned(),
        layout if layout == "biformer_stl" || STL_NAMES.contains(&layout) => {
            format!("{layout}_nano")
        }
        other => other.replace("vit_base", "vit_tiny"),
    }
}

#[test]
fn every_recipe_takes_two_steps() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let data = folder.path().join("data");
    let shapes = ShapesConfig { img_size: 64, train_per_class: 2, val_per_class: 1, seed: 0 };
    write_image_folder(&data, &shapes).expect("drawn pictures");
    for split in ["train", "val"] {
        for class in &CLASSES[2..] {
            fs::remove_dir_all(data.join(split).join(class)).expect("two classes are enough");
        }
    }
    let maps = drawn_maps::write(&data, [3, 4]);
    let scenes = folder.path().join("scenes");
    let shapes = ShapesConfig { train_per_class: 1, ..shapes };
    write_segmentation_folder(&scenes, &shapes).expect("drawn pictures");
    let objects = folder.path().join("objects");
    let shapes =
        ObjectsConfig { img_size: 64, train_images: 4, val_images: 1, ..Default::default() };
    write_detection_folder(&objects, &shapes).expect("drawn pictures");
    let classes = SegmentationSet::find(&scenes, None).expect("a set").classes.len();
    for path in recipes() {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let read = Recipe::read(&path).expect("a recipe");
        BackboneConfig::from_name(&read.model).expect("a known model");
        let read = Recipe { model: narrow(&read.model), ..read };
        let recipe = match read.task {
            Task::Classify => Recipe {
                data: Some(data.clone()),
                token_label_data: read.token_label.then(|| maps.clone()),
                // Those of Swin-T's layout differ in their attention alone, which is tested at other sizes.
                img_size: if name.contains("stl_") { 64 } else { read.img_size },
                epochs: 1,
                warmup_epochs: 0.0,
                cooldown_epochs: 0,
                ..read
            },
            Task::Segment => Recipe {
                data: Some(scenes.clone()),
                dataset: None,
                class_weight: read.class_weight.iter().copied().take(classes).collect(),
                max_iters: 2,
                val_interval: 2,
                warmup_iters: 0,
                crop_size: 64,
                img_scale: [64, 64],
                ..read
            },
            Task::Detect | Task::Instance => Recipe {
                data: Some(objects.clone()),
                epochs: 1,
                warmup_iters: 0,
                img_scale: [64, 64],
                ..read
            },
        };
        // Some ask for bfloat16, which not every processor multiplies.
        let amp = recipe.amp && check_precision(Precision::Bf16, &Device::default()).is_ok();
        let recipe = Recipe { batch_size: 2, grad_accum_steps: 1, amp, ..recipe };
        let run = RunFolder::new(&folder.path().join(&name)).expect("a free folder");
        let mut steps = 0;
        let mut observe = |event: Event<'_>| steps += usize::from(matches!(event, Event::Step(_)));
        let outcome =
            train(&run, &recipe, false, &Device::default(), &AtomicBool::new(false), &mut observe);
        let outcome = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        let Outcome::Finished { metrics, .. } = outcome else { panic!("{name}: interrupted") };
        assert_eq!(steps, 2, "{name}");
        assert!(metrics[0].train_loss.is_finite(), "{name}");
        assert!(metrics[0].scores.named().iter().all(|(_, score)| score.is_finite()), "{name}");
        fs::remove_dir_all(run.root()).expect("weights of all recipes would fill the disk");
    }
}
