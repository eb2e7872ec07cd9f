//! Training of Mask R-CNN: boxes and masks of drawn scenes are learnt.

mod detection {
    use std::ops::ControlFlow;
    use std::sync::atomic::AtomicBool;

    use biformer::data::DataLoader;
    use biformer::data::detection::{DetectionFolder, DetectionSet};
    use biformer::data::shapes::{ObjectsConfig, write_detection_folder};
    use biformer::detection::{
        AveragePrecision, DetectedBatch, Inference, IouType, evaluate, load_detector,
    };
    use biformer::train::{Outcome, Recipe, RunFolder, Scores, train};
    use burn::tensor::Device;

    /// Eight pictures to learn, without augmentation; the validation of each epoch sees another one.
    #[test]
    fn boxes_and_masks_are_learnt() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let data = folder.path().join("scenes");
        let objects = ObjectsConfig { train_images: 8, val_images: 1, ..Default::default() };
        write_detection_folder(&data, &objects).expect("drawn pictures");
        let recipe = Recipe {
            model: "biformer_pico".to_owned(),
            data: Some(data.clone()),
            initial_checkpoint: Some("biformer_pico.cifar10".into()),
            neck_channels: 32,
            head_channels: 64,
            stacked_convs: 1,
            batch_size: 4,
            lr: 2e-3,
            lr_steps: vec![75],
            epochs: 90,
            img_scale: [128, 128],
            hflip: 0.0,
            warmup_iters: 20,
            clip_grad: 10.0,
            ..Recipe::instance_segmentation()
        };
        let run = RunFolder::new(&folder.path().join("run")).expect("a free folder");
        let (device, stop) = (Device::default(), AtomicBool::new(false));
        let outcome = train(&run, &recipe, false, &device, &stop, &mut |_| {}).expect("a run");
        let Outcome::Finished { metrics, .. } = outcome else { panic!("nobody stopped it") };
        let last = metrics.last().expect("an epoch");
        assert!(matches!(last.scores, Scores::Instances { .. }), "{:?}", last.scores);

        let path = folder.path().join("run/last.safetensors");
        let loaded = load_detector(&path, &Default::default(), &device).expect("a detector");
        assert_eq!(loaded.info.method, "mask_rcnn");
        let set = DetectionSet::find(&data, None).expect("a layout");
        let learnt = DetectionFolder::open(&data, &set, "train").expect("pictures");
        let mut masks = AveragePrecision::new(loaded.info.classes.len(), IouType::Segm);
        let inference = Inference::new(loaded.info.resize);
        let loader = DataLoader::new(learnt.samples, 1);
        let model = loaded.model.for_inference();
        let boxes = evaluate(&model, loader, &inference, &device, |batch: &DetectedBatch<'_>| {
            batch.pictures.iter().for_each(|picture| picture.add_to(&mut masks));
            ControlFlow::Continue(())
        });
        let boxes = boxes.expect("pictures").expect("nobody broke off").scores().ap50();
        let masks = masks.scores().ap50();
        assert!(boxes > 0.9 && masks > 0.9, "AP50 of boxes {boxes}, of masks {masks}");
    }
}
