//! Training of segmentors: it learns, begins with other weights, and refuses what cannot be learnt from.
//!
//! One test: seeds belong to the device, and two at a time would draw from it.

mod thread_link;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;

use biformer::Result;
use biformer::classification::load_classifier;
use biformer::data::segmentation::{SegmentationFolder, SegmentationSet};
use biformer::data::shapes::{CLASSES, ShapesConfig, write_segmentation_folder};
use biformer::data::{DataLoader, Shard};
use biformer::distributed::World;
use biformer::models::{BackboneConfig, VitConfig};
use biformer::segmentation::{
    Inference, LoadDenseOptions, SegmentedBatch, evaluate, load_segmentor,
};
use biformer::train::{Event, Outcome, Recipe, RunFolder, Scores, train, train_in};
use biformer::weights::{KeyStyle, StateTensor, state_dict, write_safetensors};
use burn::tensor::Device;

use thread_link::Threads;

/// A picture of each of four shapes, and the same ones to be judged by.
fn scenes(folder: &Path) -> PathBuf {
    let data = folder.join("scenes");
    let shapes = ShapesConfig { img_size: 128, train_per_class: 1, val_per_class: 1, seed: 0 };
    write_segmentation_folder(&data, &shapes).expect("drawn pictures");
    for class in &CLASSES[..4] {
        for kind in ["images", "labels"] {
            let picture = data.join(kind).join("train").join(format!("{class}_0000.png"));
            fs::remove_file(picture).expect("a picture");
        }
    }
    let definition = data.join("dataset.toml");
    let text = fs::read_to_string(&definition).expect("a definition");
    fs::write(&definition, text.replace("/val\"", "/train\"")).expect("a definition");
    data
}

/// Without augmentation.
fn overfit(data: &Path) -> Recipe {
    Recipe {
        model: "biformer_pico".to_owned(),
        data: Some(data.to_owned()),
        neck_channels: 32,
        head_channels: 32,
        aux_channels: 16,
        batch_size: 4,
        lr: 4e-3,
        crop_size: 128,
        img_scale: [128, 128],
        ratio_range: [1.0, 1.0],
        cat_max_ratio: 1.0,
        hflip: 0.0,
        photo_metric_distortion: false,
        max_iters: 240,
        val_interval: 240,
        warmup_iters: 10,
        ..Recipe::segmentation()
    }
}

fn run(folder: &Path, recipe: &Recipe, told: &mut Vec<String>) -> Result<Scores> {
    let run = RunFolder::new(folder)?;
    let mut observe = |event: Event<'_>| {
        if !matches!(event, Event::Step(_) | Event::Validated { .. }) {
            told.push(format!("{event:?}"));
        }
    };
    let stop = AtomicBool::new(false);
    match train(&run, recipe, false, &Device::default(), &stop, &mut observe)? {
        Outcome::Finished { metrics, .. } => Ok(metrics.last().expect("an epoch").scores),
        Outcome::Interrupted { .. } => panic!("nobody stopped it"),
    }
}

#[test]
fn segmentation_learns_and_begins_with_other_weights() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let data = scenes(folder.path());
    let path = |name: &str| folder.path().join(name);
    let mut told = Vec::new();

    let recipe = overfit(&data);
    let scores = run(&path("fpn"), &recipe, &mut told).expect("a run");
    let Scores::Segmentation { val_mean_iou, .. } = scores else { panic!("{scores:?}") };
    // It was 0.98; other processors round otherwise, and training spreads that.
    assert!(val_mean_iou > 0.9, "mIoU {val_mean_iou} on the pictures that were learnt");

    // What was learnt is a start for the next run, whose first steps need no warm-up.
    let short =
        Recipe { max_iters: 1, val_interval: 1, warmup_iters: 0, lr: 1e-6, ..recipe.clone() };
    let again = Recipe { initial_checkpoint: Some(path("fpn/best.safetensors")), ..short.clone() };
    let scores = run(&path("again"), &again, &mut told).expect("a run");
    let Scores::Segmentation { val_mean_iou: after, .. } = scores else { panic!("{scores:?}") };
    // A step of 1e-6 and one batch more in the running statistics.
    assert!((after - val_mean_iou).abs() < 0.05, "{after} after {val_mean_iou}");
    let loaded = load_segmentor(
        &path("again/last.safetensors"),
        &LoadDenseOptions::default(),
        &Device::default(),
    );
    let info = loaded.expect("a segmentor").info;
    assert_eq!((info.classes.len(), info.classes[0].as_str()), (9, "background"));
    assert_eq!((info.resize.img_scale, info.resize.size_divisor), ([128, 128], 32));

    let other = Recipe { method: "upernet".to_owned(), ..again.clone() };
    let error = run(&path("other"), &other, &mut told).expect_err("other heads").to_string();
    assert!(error.contains("SemanticFpn") && error.contains("Uper"), "{error}");

    told.clear();
    let classifier = Some("biformer_pico.cifar10".into());
    let begun =
        Recipe { initial_checkpoint: classifier, method: "upernet".to_owned(), ..short.clone() };
    run(&path("upernet"), &begun, &mut told).expect("a run");
    let expected = "InitializedBackbone { loaded: ";
    assert!(
        told.iter().any(|event| event.contains(expected) && event.contains("fresh: 8")),
        "{told:?}"
    );
    let wrong = Recipe { model: "biformer_nano".to_owned(), ..begun };
    let error = run(&path("wrong"), &wrong, &mut told).expect_err("another backbone").to_string();
    assert!(error.contains("biformer_pico.cifar10") && error.contains("biformer_nano"), "{error}");

    // A plain ViT with the weights of a classifier that has a class token, more positions and a head.
    told.clear();
    let deit = path("deit.safetensors");
    write_deit(&deit);
    let vit = Recipe {
        model: "vit_tiny_bra".to_owned(),
        initial_checkpoint: Some(deit),
        method: "upernet".to_owned(),
        ..short.clone()
    };
    run(&path("vit"), &vit, &mut told).expect("a run");
    let expected = "InitializedBackbone { loaded: 149, fresh: 56, left_out: 3 }";
    assert!(told.iter().any(|event| event == expected), "{told:?}");
    let options = LoadDenseOptions::default();
    let loaded = load_segmentor(&path("vit/last.safetensors"), &options, &Device::default());
    let BackboneConfig::Vit(loaded) = loaded.expect("a segmentor").config.backbone else {
        panic!("another backbone")
    };
    assert_eq!((loaded.grid, loaded.pyramid_channels), (128 / 16, 32));

    linear_probe(&short, folder.path());
    two_processes(&data, &again, folder.path());

    // Labels are looked at before the first step.
    let text = fs::read_to_string(data.join("dataset.toml")).expect("a definition");
    fs::write(path("few.toml"), text.replace(", \"ring\"", "")).expect("a definition");
    let few = Recipe { dataset: Some(path("few.toml").display().to_string()), ..short.clone() };
    let error = run(&path("few"), &few, &mut told).expect_err("a class is missing").to_string();
    assert!(error.contains("none of the 8 classes"), "{error}");
    for name in ["other", "wrong", "few"] {
        assert!(!path(name).exists(), "a run that cannot start leaves no folder");
    }
}

/// DeiT-Ti as timm saves it, with fresh weights.
fn write_deit(path: &Path) {
    let model = VitConfig::tiny().with_grid(14).init(&Device::default());
    let mut weights = state_dict(&model, KeyStyle::Vit);
    weights.retain(|key, _| !key.starts_with("pyramid."));
    let mut insert = |key: &str, shape: Vec<usize>| {
        let numbers = vec![0.01; shape.iter().product()];
        weights.insert(key.to_owned(), StateTensor::new(shape, numbers));
    };
    insert("cls_token", vec![1, 1, 192]);
    insert("pos_embed", vec![1, 197, 192]);
    insert("head.weight", vec![1000, 192]);
    insert("head.bias", vec![1000]);
    write_safetensors(path, &weights, &Default::default()).expect("a file");
}

/// The head learns, and the backbone stays as the classifier has it, bit for bit, running statistics and all.
fn linear_probe(recipe: &Recipe, folder: &Path) {
    let classifier = PathBuf::from("biformer_pico.cifar10");
    let recipe = Recipe {
        method: "linear".to_owned(),
        max_iters: 3,
        val_interval: 3,
        lr: 1e-2,
        drop_path: 0.2,
        initial_checkpoint: Some(classifier.clone()),
        ..recipe.clone()
    };
    let last = folder.join("linear");
    run(&last, &recipe, &mut Vec::new()).expect("a run");
    let device = Device::default();
    let loaded = load_segmentor(&last.join("last.safetensors"), &Default::default(), &device);
    let loaded = loaded.expect("a segmentor");
    assert_eq!(loaded.info.method, "linear");
    let classifier = load_classifier(&classifier, &Default::default(), &device);
    let before = classifier.expect("a classifier").model.backbone;
    let style = before.config.key_style();
    let (before, after) = (state_dict(&before, style), state_dict(&loaded.model.backbone, style));
    for (key, tensor) in &after {
        match before.get(key) {
            Some(before) => assert!(tensor == before, "{key}"),
            None if key.ends_with("weight") => assert!(tensor.data.iter().all(|&x| x == 1.0)),
            None => assert!(tensor.data.iter().all(|&x| x == 0.0)),
        }
    }
    assert!(after.len() > before.len(), "no extra norms");
    let head = state_dict(&loaded.model.decode_head, style);
    let bias = head.iter().find(|(key, _)| key.ends_with("conv_seg.bias")).expect("a bias").1;
    assert!(bias.data.iter().all(|&x| x != 0.0), "{bias:?}");
}

/// Threads in the place of processes, which judge three pictures: one of them has no second one.
fn two_processes(data: &Path, recipe: &Recipe, folder: &Path) {
    let definition = folder.join("three.toml");
    let text = fs::read_to_string(data.join("dataset.toml")).expect("a definition");
    let suffix = "image_suffix = \".png\"\n";
    fs::write(&definition, format!("{suffix}{text}list = \"three.txt\"\n")).expect("a definition");
    fs::write(data.join("three.txt"), "ring_0000\nsquare_0000\nstar_0000\n").expect("a list");
    let recipe =
        Recipe { dataset: Some(definition.display().to_string()), batch_size: 2, ..recipe.clone() };
    let run = RunFolder::new(&folder.join("processes")).expect("a free folder");
    let link = Threads::new(2);
    let train = |rank| {
        let world = World::new(Shard { rank, size: 2 }, link.clone());
        let stop = AtomicBool::new(false);
        train_in(&world, &run, &recipe, false, &Device::default(), &stop, &mut |_| {})
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads = [0, 1].map(|rank| scope.spawn(move || train(rank)));
        threads.map(|thread| thread.join().expect("no panic")).into()
    });
    let scores = outcomes.into_iter().map(|outcome| match outcome.expect("a run") {
        Outcome::Finished { metrics, .. } => metrics[0].scores.named(),
        Outcome::Interrupted { .. } => panic!("nobody stopped it"),
    });
    let scores: Vec<_> = scores.collect();
    assert_eq!(scores[0], scores[1]);

    // All three pictures, each once.
    let device = Device::default();
    let loaded = load_segmentor(&run.last(), &LoadDenseOptions::default(), &device);
    let loaded = loaded.expect("a segmentor");
    let model = loaded.model.for_inference();
    let set = SegmentationSet::read(&definition).expect("a definition");
    let val = SegmentationFolder::open(data, set, "val").expect("pictures");
    assert_eq!(val.samples.len(), 3);
    let loader = DataLoader::new(val.samples, 2);
    let inference = Inference::single_scale(loaded.info.resize);
    let go_on = |_: &SegmentedBatch<'_>| ControlFlow::Continue(());
    let found = evaluate(&|x| model.forward(x), loader, 9, &inference, &device, go_on);
    let found = found.expect("labels").expect("nobody broke off");
    assert_eq!(scores[0][1], ("val_mIoU", found.mean_iou()));
}
