//! What anchors stand for, losses and their gradients.

use biformer::detection::*;
use biformer::layers::freeze_statistics;
use biformer::train::NamedGradients;
use biformer::weights::{load_state_dict, state_dict};
use burn::module::Module;
use burn::tensor::Device;

use super::{config, disturbed, pictures, size, values};

fn truth(side: usize, boxes: &[Xyxy], labels: &[usize]) -> GroundTruth {
    GroundTruth {
        boxes: boxes.to_vec(),
        labels: labels.to_vec(),
        masks: Vec::new(),
        size: size(side),
        seed: 0,
    }
}

/// A batch of 128² with a picture of 64² in it, whose padding goes to 64².
#[test]
fn anchors_in_the_padding_of_the_batch_do_not_count() {
    let anchors = AnchorGenerator::retinanet();
    let sizes = [[16, 16], [8, 8], [4, 4], [2, 2], [1, 1]];
    let truth = truth(64, &[[8.0, 8.0, 40.0, 40.0]], &[0]);
    let matches = match_anchors(&anchors, &sizes, &MaxIouAssigner::RETINANET, &truth);
    let per_token = anchors.per_token();
    for (level, [rows, columns]) in sizes.into_iter().enumerate() {
        assert_eq!(matches[level].len(), rows * columns * per_token);
        let counted = 64usize.div_ceil(anchors.strides[level]);
        for (i, found) in matches[level].iter().enumerate() {
            let (row, column) = (i / per_token / columns, i / per_token % columns);
            let is_outside = row >= counted || column >= counted;
            assert!(!is_outside || *found == Match::Ignored, "level {level}, anchor {i}");
        }
    }
    // 32 pixels in the middle of tokens: the square anchor of scale 4 at (24, 24) is the box itself.
    let at_center = (3 * 16 + 3) * per_token + 3;
    assert_eq!(anchors.grid_anchors(&sizes)[0][at_center], truth.boxes[0]);
    assert_eq!(matches[0][at_center], Match::Object(0));
    let objects = matches.concat().iter().filter(|found| **found == Match::Object(0)).count();
    assert!((2..40).contains(&objects), "{objects}");
}

/// Without objects all anchors learn that nothing is there, and nothing else.
#[test]
fn a_picture_without_objects_has_a_loss() {
    let device = Device::default().autodiff();
    let model = disturbed(config().init(&device));
    let losses =
        model.forward_train(pictures(2, 64, &device), &[truth(64, &[], &[]), truth(64, &[], &[])]);
    let parts: Vec<(&str, f32)> =
        losses.parts.into_iter().map(|(name, loss)| (name, values(loss)[0])).collect();
    let [("loss_cls", cls), ("loss_bbox", bbox)] = parts[..] else { panic!("{parts:?}") };
    assert!(cls.is_finite() && cls > 0.0 && bbox == 0.0, "{cls} {bbox}");
    assert_eq!(values(losses.loss)[0], cls);
}

/// Along its gradient g the loss rises by |g|, which central differences measure without knowing g.
/// A float32 loss near 10 is exact to some 1e-6, and 2 · STEP · |g| is 1e-3 or more; kinks of ReLU and of L1 add
/// the rest.
#[test]
fn gradients_are_slopes() {
    const SIDE: usize = 96;
    const STEP: f32 = 0.002;
    let device = Device::default().autodiff();
    let model = freeze_statistics(disturbed(config().init(&device)));
    let style = model.backbone.config.key_style();
    let x = pictures(2, SIDE, &device);
    let truths = [
        truth(SIDE, &[[10.0, 12.0, 50.0, 44.0], [40.0, 30.0, 90.0, 91.0]], &[1, 4]),
        truth(SIDE, &[[5.0, 50.0, 35.0, 80.0]], &[0]),
    ];
    let loss = |model: &Detector| model.forward_train(x.clone(), &truths).loss;
    let mut gradients = NamedGradients::collect(&model, loss(&model).backward(), style);
    let gradients: Vec<(String, Vec<f32>)> =
        gradients.iter_mut().map(|(key, g)| (key.clone(), values(g.clone()))).collect();
    for part in
        ["backbone.extra_norms", "neck", "bbox_head.cls", "bbox_head.reg", "bbox_head.retina_"]
    {
        let of_part = || gradients.iter().filter(|(key, _)| key.starts_with(part));
        let squares = of_part().flat_map(|(_, g)| g).map(|g| f64::from(*g).powi(2));
        let norm = squares.sum::<f64>().sqrt() as f32;
        assert!(norm > 1e-2, "a gradient of {norm} of {part}");
        let loss_at = |step: f32| {
            let mut weights = state_dict(&model, style);
            for (key, gradient) in of_part() {
                let tensor = weights.get_mut(key).expect("a weight");
                let moved = tensor.data.iter_mut().zip(gradient);
                moved.for_each(|(weight, g)| *weight += step * g / norm);
            }
            let model = load_state_dict(model.clone(), weights, style).expect("its keys");
            values(loss(&model))[0]
        };
        let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
        let error = (slope / norm - 1.0).abs();
        assert!(error < 0.02, "{part} has a slope of {slope}, a gradient of {norm}");
    }
}

/// Frozen statistics stay as they are, also through a validation, and scales still learn.
#[test]
fn frozen_statistics_do_not_move() {
    let device = Device::default().autodiff();
    let x = pictures(2, 64, &device);
    let truths = [truth(64, &[[8.0, 8.0, 40.0, 40.0]], &[2]), truth(64, &[], &[])];
    let changed = |model: &Detector| {
        let style = model.backbone.config.key_style();
        let before = state_dict(&model.valid(), style);
        let gradients = model.forward_train(x.clone(), &truths).loss.backward();
        let mut gradients = NamedGradients::collect(model, gradients, style);
        let gamma = gradients.remove("backbone.downsample_layers.0.1.weight").expect("a gradient");
        assert!(values(gamma).iter().any(|&g| g != 0.0));
        let after = state_dict(&model.valid(), style);
        before.iter().filter(|(key, tensor)| after[*key] != **tensor).count()
    };
    let model = disturbed(config().init(&device));
    // A mean and a variance of each of five norms: two in the stem, one in front of each later stage.
    assert_eq!(changed(&model), 10);
    let frozen = freeze_statistics(model);
    assert_eq!(changed(&frozen), 0);
    assert_eq!(changed(&frozen.valid().train()), 0);
}
