//! Mask R-CNN: its losses, their gradients, its masks, and its files.

use biformer::Precision;
use biformer::data::detection::{Bitmap, Rle};
use biformer::detection::*;
use biformer::layers::freeze_statistics;
use biformer::models::BiFormerConfig;
use biformer::train::NamedGradients;
use biformer::weights::{keys_and_shapes, load_state_dict, state_dict};
use burn::tensor::{Device, Tensor};

use super::{CLASSES, disturbed, info, pictures, values};

const SIDE: usize = 96;

/// Narrow heads on a backbone of one block a stage.
fn config() -> DetectorConfig {
    let heads = MaskRcnnConfig { pyramid_channels: 16, box_channels: 24, mask_convs: 1 };
    let mut config = DetectorConfig::mask_rcnn(BiFormerConfig::pico()).with_num_classes(CLASSES);
    config.heads = DetectorHeadsConfig::MaskRcnn(heads);
    config
}

fn size() -> PictureSize {
    PictureSize { original: [SIDE; 2], resized: [SIDE; 2], padded: [SIDE; 2] }
}

/// Objects that fill the left half of their boxes.
fn truth(boxes: &[Xyxy], labels: &[usize], seed: u64) -> GroundTruth {
    let mask = |&[x1, y1, x2, y2]: &Xyxy| {
        let is_inside = |x: u32, y: u32| {
            let (x, y) = (x as f32, y as f32);
            x1 <= x && 2.0 * x < x1 + x2 && y1 <= y && y < y2
        };
        Rle::encode(&Bitmap::from_fn(SIDE as u32, SIDE as u32, |x, y| {
            [u8::from(is_inside(x, y))].into()
        }))
    };
    let masks = boxes.iter().map(mask).collect();
    GroundTruth { boxes: boxes.to_vec(), labels: labels.to_vec(), masks, size: size(), seed }
}

fn truths() -> [GroundTruth; 2] {
    [
        truth(&[[10.0, 12.0, 50.0, 44.0], [40.0, 30.0, 90.0, 91.0]], &[1, 4], 1),
        truth(&[[5.0, 50.0, 35.0, 80.0]], &[0], 2),
    ]
}

/// The losses by name.
fn parts(model: &Detector, x: &Tensor<4>, truths: &[GroundTruth]) -> Vec<(&'static str, f32)> {
    let losses = model.forward_train(x.clone(), truths).parts.into_iter();
    losses.map(|(name, loss)| (name, values(loss)[0])).collect()
}

#[test]
fn a_picture_without_objects_learns_that_nothing_is_there() {
    let device = Device::default().autodiff();
    let model = disturbed(config().init(&device));
    let x = pictures(2, SIDE, &device);
    let of_nothing = parts(&model, &x, &[truth(&[], &[], 1), truth(&[], &[], 2)]);
    for (name, loss) in of_nothing {
        let learns = matches!(name, "loss_rpn_cls" | "loss_cls");
        assert!(loss.is_finite() && (loss > 0.0) == learns, "{name}: {loss}");
    }
    let [with, _] = truths();
    let of_one = parts(&model, &x, &[with, truth(&[], &[], 2)]);
    assert!(of_one.iter().all(|(_, loss)| loss.is_finite() && *loss > 0.0), "{of_one:?}");
}

/// What is drawn depends on the seeds of the pictures alone.
#[test]
fn draws_belong_to_pictures() {
    let device = Device::default().autodiff();
    let model = freeze_statistics(disturbed(config().init(&device)));
    let x = pictures(2, SIDE, &device);
    let expected = parts(&model, &x, &truths());
    assert_eq!(parts(&model, &x, &truths()), expected);
    let reseeded = truths().map(|truth| GroundTruth { seed: truth.seed + 10, ..truth });
    assert_ne!(parts(&model, &x, &reseeded)[0], expected[0]);
}

/// As for RetinaNet. What the neck says decides which regions are looked at, with a jump of the losses of
/// the second stage, so that it and the first stage are held to the losses of the first.
#[test]
fn gradients_are_slopes() {
    const STEP: f32 = 0.002;
    let device = Device::default().autodiff();
    let model = freeze_statistics(disturbed(config().init(&device)));
    let style = model.backbone.config.key_style();
    let (x, truths) = (pictures(2, SIDE, &device), truths());
    for (part, of_loss) in [
        ("neck", "loss_rpn"),
        ("rpn_head", "loss_rpn"),
        ("roi_head.bbox_head", "loss"),
        ("roi_head.mask_head", "loss_mask"),
    ] {
        let loss = |model: &Detector| {
            let parts = model.forward_train(x.clone(), &truths).parts.into_iter();
            let parts = parts.filter(|(name, _)| name.starts_with(of_loss));
            parts.map(|(_, loss)| loss).reduce(|sum, loss| sum + loss).expect("a loss")
        };
        let mut gradients = NamedGradients::collect(&model, loss(&model).backward(), style);
        let gradients: Vec<(String, Vec<f32>)> = gradients
            .iter_mut()
            .filter(|(key, _)| key.starts_with(part))
            .map(|(key, g)| (key.clone(), values(g.clone())))
            .collect();
        let squares = gradients.iter().flat_map(|(_, g)| g).map(|g| f64::from(*g).powi(2));
        let norm = squares.sum::<f64>().sqrt() as f32;
        assert!(norm > 1e-2, "a gradient of {norm} of {part}");
        let loss_at = |step: f32| {
            let mut weights = state_dict(&model, style);
            for (key, gradient) in &gradients {
                let tensor = weights.get_mut(key).expect("a weight");
                // Linear weights are transposed in files.
                let rows = if tensor.shape.len() == 2 { tensor.shape[0] } else { 1 };
                let columns = tensor.data.len() / rows;
                for (i, weight) in tensor.data.iter_mut().enumerate() {
                    *weight += step * gradient[i % columns * rows + i / columns] / norm;
                }
            }
            let model = load_state_dict(model.clone(), weights, style).expect("its keys");
            values(loss(&model))[0]
        };
        let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
        let error = (slope / norm - 1.0).abs();
        assert!(error < 0.02, "{part} has a slope of {slope}, a gradient of {norm}");
    }
}

/// The second stage learns through its regions, too.
#[test]
fn every_loss_reaches_the_pyramid() {
    let device = Device::default().autodiff();
    let model = disturbed(config().init(&device));
    let style = model.backbone.config.key_style();
    for part in 0..5 {
        // Anew: a backward pass consumes what the forward pass has left.
        let losses = model.forward_train(pictures(2, SIDE, &device), &truths());
        let (name, loss) = losses.parts[part].clone();
        let mut gradients = NamedGradients::collect(&model, loss.backward(), style);
        let lateral = gradients.remove("neck.lateral_convs.1.conv.weight").expect("a gradient");
        assert!(values(lateral).iter().any(|&g| g != 0.0), "{name}");
    }
}

/// Folded and packed, the model finds the same within rounding; masks are of the size of the file, and within
/// a pixel of their boxes.
#[test]
fn masks_are_those_of_the_picture() {
    let device = Device::default();
    let model = disturbed(config().init(&device));
    let original = [61, 90];
    let size = PictureSize { original, resized: [65, SIDE], padded: [SIDE; 2] };
    let find = |model: &Detector| {
        let options =
            DetectOptions { max_per_image: 10, score_threshold: 0.2, ..Default::default() };
        model.detect(pictures(2, SIDE, &device), &[size; 2], &options).expect("numbers")
    };
    let expected = find(&model);
    let found = find(&model.clone().for_inference_in(Precision::F32));
    let all: Vec<_> = found.iter().flatten().zip(expected.iter().flatten()).collect();
    assert!(all.len() >= 10, "{} detections", all.len());
    let mut area = 0;
    for (found, expected) in all {
        assert_eq!(found.label, expected.label);
        assert!((found.score - expected.score).abs() < 1e-4, "{found:?}, expected {expected:?}");
        let mask = found.mask.as_ref().expect("a mask");
        assert_eq!(mask.size(), original.map(|side| side as u32));
        let [left, top, width, height] = mask.bounding_box().map(|side| side as f32);
        if mask.area() > 0 {
            let [x1, y1, x2, y2] = found.bbox;
            assert!(left >= x1 - 1.0 && top >= y1 - 1.0, "{found:?}");
            assert!(left + width <= x2 + 1.0 && top + height <= y2 + 1.0, "{found:?}");
        }
        area += mask.area();
    }
    assert!(area > 0, "all masks are empty");
}

/// In training the loss tells it; detection refuses.
#[test]
fn broken_weights_are_told() {
    let device = Device::default();
    let broken = |device: &Device| {
        let model = disturbed(config().init(device));
        let style = model.backbone.config.key_style();
        let mut weights = state_dict(&model, style);
        weights.get_mut("rpn_head.rpn_cls.bias").expect("a bias").data[0] = f32::NAN;
        load_state_dict(model, weights, style).expect("its keys")
    };
    let training = device.clone().autodiff();
    let losses =
        broken(&training).forward_train(pictures(1, SIDE, &training), &[truth(&[], &[], 1)]);
    assert!(values(losses.loss)[0].is_nan());
    let x = pictures(1, SIDE, &device);
    let error = broken(&device).detect(x, &[size()], &DetectOptions::default());
    let error = error.expect_err("no numbers").to_string();
    assert!(error.contains("no numbers"), "{error}");
}

#[test]
fn files_have_official_names() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("detector.safetensors");
    let model = disturbed(config().init(&device));
    let style = model.backbone.config.key_style();
    let keys = keys_and_shapes(&model, style);
    for (key, shape) in [
        ("neck.lateral_convs.3.conv.weight", vec![16, 256, 1, 1]),
        ("rpn_head.rpn_conv.weight", vec![16, 16, 3, 3]),
        ("rpn_head.rpn_cls.bias", vec![3]),
        ("rpn_head.rpn_reg.weight", vec![12, 16, 1, 1]),
        ("roi_head.bbox_head.shared_fcs.0.weight", vec![24, 16 * 49]),
        ("roi_head.bbox_head.fc_cls.weight", vec![CLASSES + 1, 24]),
        ("roi_head.bbox_head.fc_reg.bias", vec![4 * CLASSES]),
        ("roi_head.mask_head.convs.0.conv.weight", vec![16, 16, 3, 3]),
        ("roi_head.mask_head.upsample.weight", vec![16, 16, 2, 2]),
        ("roi_head.mask_head.conv_logits.weight", vec![CLASSES, 16, 1, 1]),
    ] {
        let found = keys.iter().find(|(found, _)| found == key).map(|(_, shape)| shape);
        if key.starts_with("neck") {
            assert!(found.is_some(), "{key}");
        } else {
            assert_eq!(found, Some(&shape), "{key}");
        }
    }
    assert!(keys.iter().all(|(key, _)| !key.starts_with("neck.fpn_convs.4")), "P6 has no weights");

    let info = DetectorInfo { method: "mask_rcnn".to_owned(), ..info() };
    save_detector(&path, &model, &info).expect("a file");
    assert!(is_detector(&path));
    let loaded = load_detector(&path, &Default::default(), &device).expect("a detector");
    assert_eq!((loaded.info, loaded.replaced_head), (info, None));
    assert_eq!(loaded.config.heads, config().heads);
    assert_eq!(state_dict(&loaded.model, style), state_dict(&model, style));

    let options = LoadDenseOptions { num_classes: Some(2), ..Default::default() };
    let loaded = load_detector(&path, &options, &device).expect("a detector");
    assert_eq!((loaded.replaced_head, loaded.model.num_classes()), (Some(CLASSES), 2));

    let mut weights = state_dict(&model, style);
    let first = weights.get_mut("roi_head.bbox_head.shared_fcs.0.weight").expect("a weight");
    first.shape = vec![16 * 49, 24];
    biformer::weights::write_safetensors(&path, &weights, &Default::default()).expect("a file");
    let error = load_detector(&path, &Default::default(), &device).expect_err("another shape");
    let error = error.to_string();
    assert!(error.contains("shared_fcs.0.weight") && error.contains("[any, 784]"), "{error}");
}
