//! Training of detectors: it learns, begins with other weights, and refuses what cannot be learnt from.
//!
//! One test: seeds belong to the device, and two at a time would draw from it.

mod thread_link;

mod detection {
    use std::fs;
    use std::ops::ControlFlow;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use biformer::Result;
    use biformer::data::detection::{DetectionFolder, DetectionSet};
    use biformer::data::shapes::{ObjectsConfig, write_detection_folder};
    use biformer::data::{DataLoader, Shard};
    use biformer::detection::CocoScores;
    use biformer::detection::{
        DetectedBatch, Inference, LoadDenseOptions, evaluate, load_detector,
    };
    use biformer::distributed::World;
    use biformer::train::{Event, Outcome, Recipe, RunFolder, Scores, train, train_in};
    use biformer::weights::read_state_dict;
    use burn::tensor::Device;

    use crate::thread_link::Threads;

    /// Eight pictures to learn; the validation of each epoch sees another one.
    fn scenes(folder: &Path) -> PathBuf {
        let data = folder.join("scenes");
        let objects = ObjectsConfig { train_images: 8, val_images: 1, ..Default::default() };
        write_detection_folder(&data, &objects).expect("drawn pictures");
        data
    }

    /// Without augmentation.
    fn overfit(data: &Path) -> Recipe {
        Recipe {
            model: "biformer_pico".to_owned(),
            data: Some(data.to_owned()),
            initial_checkpoint: Some("biformer_pico.cifar10".into()),
            neck_channels: 32,
            head_channels: 32,
            stacked_convs: 1,
            batch_size: 4,
            lr: 4e-3,
            lr_steps: vec![90],
            epochs: 120,
            img_scale: [128, 128],
            hflip: 0.0,
            warmup_iters: 20,
            clip_grad: 10.0,
            ..Recipe::detection()
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
    fn learns_and_begins_with_other_weights() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let data = scenes(folder.path());
        let path = |name: &str| folder.path().join(name);
        let mut told = Vec::new();

        let recipe = overfit(&data);
        run(&path("run"), &recipe, &mut told).expect("a run");
        let expected = "InitializedBackbone { loaded: ";
        assert!(told.iter().any(|event| event.contains(expected)), "{told:?}");

        let last = path("run/last.safetensors");
        let ap50 = judge(&data, "train", &last).ap50();
        assert!(ap50 > 0.9, "AP50 {ap50} on the pictures that were learnt");

        // Frozen, as the recipe says.
        let mean = "downsample_layers.2.1.running_mean";
        let weights = read_state_dict(&last).expect("weights");
        let again = Recipe {
            initial_checkpoint: Some(last.clone()),
            epochs: 1,
            warmup_iters: 0,
            norm_eval: false,
            ..recipe.clone()
        };
        run(&path("again"), &again, &mut told).expect("a run");
        let other = read_state_dict(&path("again/last.safetensors")).expect("weights");
        let key = format!("backbone.{mean}");
        assert_ne!(weights[&key], other[&key], "statistics that are not frozen move");

        let wider = Recipe { head_channels: 48, ..again.clone() };
        let error = run(&path("wider"), &wider, &mut told).expect_err("other heads").to_string();
        assert!(error.contains("channels: 32") && error.contains("channels: 48"), "{error}");
        let wrong = Recipe {
            model: "biformer_nano".to_owned(),
            initial_checkpoint: recipe.initial_checkpoint.clone(),
            ..again.clone()
        };
        let error =
            run(&path("wrong"), &wrong, &mut told).expect_err("another backbone").to_string();
        assert!(
            error.contains("biformer_pico.cifar10") && error.contains("biformer_nano"),
            "{error}"
        );

        two_processes(&data, &again, folder.path());

        // Looked at before the first step.
        for (part, words) in [("train", "to learn from"), ("val", "to be judged by")] {
            let file = data.join(format!("annotations/instances_{part}.json"));
            let text = fs::read_to_string(&file).expect("annotations");
            let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            json["annotations"] = serde_json::Value::Array(Vec::new());
            fs::write(&file, json.to_string()).expect("annotations");
            let error =
                run(&path(part), &again, &mut told).expect_err("nothing marked").to_string();
            assert!(error.contains(words), "{error}");
            fs::write(&file, text).expect("annotations");
        }
        for name in ["wider", "wrong", "train", "val"] {
            assert!(!path(name).exists(), "a run that cannot start leaves no folder");
        }
    }

    /// The scores of a detector on a part of the set.
    fn judge(data: &Path, part: &str, checkpoint: &Path) -> CocoScores {
        let device = Device::default();
        let loaded = load_detector(checkpoint, &LoadDenseOptions::default(), &device);
        let loaded = loaded.expect("a detector");
        assert_eq!((loaded.info.classes.len(), loaded.info.resize.img_scale), (8, [128, 128]));
        let set = DetectionSet::find(data, None).expect("a layout");
        let pictures = DetectionFolder::open_boxes(data, &set, part).expect("pictures").samples;
        let inference = Inference::new(loaded.info.resize);
        let model = loaded.model.for_inference();
        let go_on = |_: &DetectedBatch<'_>| ControlFlow::Continue(());
        let loader = DataLoader::new(pictures, 1);
        let found = evaluate(&model, loader, &inference, &device, go_on).expect("pictures");
        found.expect("nobody broke off").scores()
    }

    /// Threads in the place of processes; one of them has nothing to judge.
    fn two_processes(data: &Path, recipe: &Recipe, folder: &Path) {
        let recipe = Recipe { batch_size: 2, ..recipe.clone() };
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
        let alone = judge(data, "val", &run.last());
        assert_eq!(scores[0][0], ("val_bbox_mAP", alone.ap()));
    }
}
