//! Losses and their gradients.

use biformer::layers::ChannelDropout;
use biformer::segmentation::*;
use biformer::weights::{keys_and_shapes, load_state_dict, state_dict};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::{config, disturbed, labels, number, values};

/// Two pixels of two classes: p = 1 / (1 + e⁻¹) of the class that is ahead by 1.
#[test]
fn losses_count_labelled_pixels() {
    let device = Device::default().autodiff();
    let logits = || {
        let logits = [[[[1.0f32, 3.0]], [[0.0, -5.0]]]];
        Tensor::<4>::from_data(logits, &device).require_grad() // [1, 2, 1, 2]
    };
    let loss = (1.0 + (-1.0f64).exp()).ln() as f32;
    let one_ignored = labels(&[0, IGNORED], [1, 1, 2], &device);
    for (mean_over, expected) in
        [(MeanOver::AllPixels, loss / 2.0), (MeanOver::LabelledPixels, loss)]
    {
        let logits = logits();
        let found = pixel_cross_entropy(logits.clone(), one_ignored.clone(), mean_over);
        assert!((values(found.clone())[0] - expected).abs() < 1e-6, "{mean_over:?}");
        let gradient = values(logits.grad(&found.backward()).expect("a gradient"));
        assert!(gradient[0] < 0.0 && gradient[2] > 0.0, "{gradient:?}");
        assert_eq!((gradient[1], gradient[3]), (0.0, 0.0), "a pixel that does not count");
    }
    let accuracy = |classes: [i64; 2]| {
        values(pixel_accuracy(logits(), labels(&classes, [1, 1, 2], &device)))[0]
    };
    assert_eq!(accuracy([0, IGNORED]), 100.0);
    assert_eq!(accuracy([0, 1]), 50.0);
    assert_eq!(accuracy([IGNORED; 2]), 0.0);
    let none = labels(&[IGNORED; 2], [1, 1, 2], &device);
    for mean_over in [MeanOver::AllPixels, MeanOver::LabelledPixels] {
        assert_eq!(values(pixel_cross_entropy(logits(), none.clone(), mean_over)), [0.0]);
    }

    // The auxiliary head has other logits and the weight 0.4.
    let output = SegmentorOutput { logits: logits(), auxiliary: Some(logits() * 0.0) };
    let losses = segmentation_losses(output, one_ignored);
    let auxiliary = 0.4 * 2f32.ln() / 2.0;
    assert!((values(losses.decode_loss_ce)[0] - loss / 2.0).abs() < 1e-6);
    assert!((values(losses.aux_loss_ce.expect("a loss"))[0] - auxiliary).abs() < 1e-6);
    assert!((values(losses.loss)[0] - loss / 2.0 - auxiliary).abs() < 1e-6);
    assert_eq!(values(losses.decode_acc_seg), [100.0]);
}

/// Along its gradient g the loss rises by |g|, which central differences measure without knowing g.
/// A float32 loss near 2 is exact to some 1e-7, and 2 · STEP · |g| is 1e-4 or more; kinks of ReLU add
/// the rest.
#[test]
fn gradients_are_slopes() {
    // C5 has 3 × 3 tokens: the norm of fewer bends too much.
    const SIDE: usize = 96;
    const STEP: f32 = 0.005;
    let device = Device::default().autodiff();
    let classes: Vec<i64> =
        (0..2 * SIDE * SIDE).map(|i| [0, 1, 2, 3, 4, IGNORED][i / 50 % 6]).collect();
    let pixels = (0..2 * 3 * SIDE * SIDE).map(|i| 2.0 * number(999, i)).collect::<Vec<f32>>();
    let pixels = TensorData::new(pixels, [2, 3, SIDE, SIDE]);
    let x = Tensor::<4>::from_data(pixels, &device);
    for method in METHOD_NAMES {
        let model = without_dropout(disturbed(config(method).init(&device)));
        let style = model.backbone.key_style();
        let loss = |model: &Segmentor| {
            let labels = labels(&classes, [2, SIDE, SIDE], &device);
            segmentation_losses(model.forward_train(x.clone()), labels).loss
        };
        let gradients = loss(&model).backward();
        let mut gradients = Gradients { gradients, found: Vec::new() };
        model.clone().map(&mut gradients);
        let keys = keys_and_shapes(&model, style).into_iter().map(|(key, _)| key);
        let gradients: Vec<(String, Vec<f32>)> = keys.zip(gradients.found).collect();
        for part in ["backbone.extra_norms", "neck", "decode_head", "auxiliary_head"] {
            let of_part = || gradients.iter().filter(|(key, _)| key.starts_with(part));
            let squares =
                of_part().flat_map(|(_, gradient)| gradient).map(|g| f64::from(*g).powi(2));
            let norm = squares.sum::<f64>().sqrt() as f32;
            let exists = match part {
                "neck" => method == "semantic_fpn",
                "auxiliary_head" => method == "upernet",
                _ => true,
            };
            assert_eq!(norm > 1e-3, exists, "{method}: a gradient of {norm} of {part}");
            if !exists {
                continue;
            }
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
            assert!(error < 0.02, "{method}: {part} has a slope of {slope}, a gradient of {norm}");
        }
    }
}

fn without_dropout(mut model: Segmentor) -> Segmentor {
    match &mut model.decode_head {
        DecodeHead::SemanticFpn(head) => head.conv_seg.dropout = ChannelDropout::new(0.0),
        DecodeHead::Uper(head) => head.conv_seg.dropout = ChannelDropout::new(0.0),
    }
    if let Some(head) = &mut model.auxiliary_head {
        head.conv_seg.dropout = ChannelDropout::new(0.0);
    }
    model
}

/// The gradients of a module, in the order of its weights; zeros where there is none.
struct Gradients {
    gradients: burn::tensor::Gradients,
    found: Vec<Vec<f32>>,
}

impl ModuleMapper for Gradients {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = param.val().grad(&self.gradients);
        let gradient = gradient.unwrap_or_else(|| param.val().inner().zeros_like());
        self.found.push(values(gradient));
        param
    }
}
