//! The maps that segmentors give, and what they cost.

use biformer::analysis::segmentor_costs;
use biformer::layers::ChannelDropout;
use biformer::models::{MODEL_NAMES, VIT_NAMES};
use biformer::segmentation::*;
use biformer::weights::keys_and_shapes;
use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};

use super::{CLASSES, config, disturbed, values};

/// A quarter of the picture, rounded up, whatever the size; a sixteenth for the auxiliary head.
#[test]
fn logits_have_stride_4_at_any_size() {
    let device = Device::default();
    for method in METHOD_NAMES {
        let model = config(method).init(&device);
        for [height, width] in [[64usize, 64], [61, 130], [33, 32]] {
            let x = Tensor::random([2, 3, height, width], Distribution::Default, &device);
            let output = model.forward_train(x.clone());
            let size =
                |stride: usize| [2, CLASSES, height.div_ceil(stride), width.div_ceil(stride)];
            assert_eq!(output.logits.dims(), size(4), "{method}");
            let auxiliary = output.auxiliary.map(|logits| logits.dims());
            assert_eq!(auxiliary, (method == "upernet").then(|| size(16)), "{method}");
            assert_eq!(values(model.forward(x)), values(output.logits), "{method}");
        }
    }
}

/// Counted twice: by the analysis, layer by layer, and by the weights that a file holds. Of the work of
/// convolutions a number is known: that of UPerNet's last, 9 · 2048 · 512 at 128².
#[test]
fn the_analysis_sees_every_parameter() {
    for name in MODEL_NAMES.into_iter().chain(VIT_NAMES) {
        for method in METHOD_NAMES {
            let model =
                SegmentorConfig::from_names(name, method).expect("known").init(&Device::default());
            let keys = keys_and_shapes(&model, model.backbone.key_style());
            let trained = keys.iter().filter(|(key, _)| !key.contains("running_"));
            let in_file: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
            let costs = segmentor_costs(&model, [512, 512]);
            let params = costs.iter().map(|cost| cost.params).sum::<usize>();
            assert_eq!(params, in_file, "{method} on {name}");
            let last = costs.iter().find(|cost| cost.name.contains("fpn_bottleneck.conv"));
            let expected = (method == "upernet").then_some(9 * 2048 * 512 * 128 * 128);
            assert_eq!(last.map(|cost| cost.macs), expected, "{method} on {name}");
        }
    }
}

#[test]
fn a_segmentor_prepared_for_inference_gives_the_same_logits() {
    let device = Device::default();
    for method in METHOD_NAMES {
        let model = disturbed(config(method).init(&device));
        let x = Tensor::<4>::random([2, 3, 97, 64], Distribution::Default, &device);
        let expected = values(model.forward(x.clone()));
        let costs = segmentor_costs(&model, [97, 64]);
        let prepared = model.for_inference();
        assert!(prepared.auxiliary_head.is_none());
        assert!(costs.starts_with(&segmentor_costs(&prepared, [97, 64])), "{method}");
        assert_eq!(prepared.num_classes(), CLASSES);
        let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (found, expected) in values(prepared.forward(x)).iter().zip(&expected) {
            // Float32 sums of a thousand terms, one network behind the other.
            assert!((found - expected).abs() < 2e-5 * largest, "{method}: {found} {expected}");
        }
    }
}

#[test]
fn channels_are_dropped_in_training_alone() {
    let device = Device::default().autodiff();
    let (rate, pictures, channels) = (0.1, 40, 500);
    let dropout = ChannelDropout::new(rate);
    let x = Tensor::<4>::ones([pictures, 1, 2, channels], &device);
    let kept = (1.0 / (1.0 - rate)) as f32;
    let output = values(dropout.forward(x.clone()));
    let mut dropped = 0;
    for picture in output.chunks(2 * channels) {
        let (first, second) = picture.split_at(channels);
        assert_eq!(first, second, "a channel in two parts");
        assert!(first.iter().all(|x| *x == 0.0 || (x - kept).abs() < 3e-7));
        dropped += first.iter().filter(|x| **x == 0.0).count();
    }
    // Six standard deviations of a share, 6 · √(0.1 · 0.9 / 20000) = 0.0127.
    let share = dropped as f64 / (pictures * channels) as f64;
    assert!((share - rate).abs() < 0.0127, "share of dropped channels: {share}");
    assert_eq!(values(dropout.forward(x.clone().inner())), values(x));

    let model = config("semantic_fpn").init(&device);
    // Two masks of 8 × 16 channels are the same with probability 0.82¹²⁸.
    let x = Tensor::<4>::random([8, 3, 32, 32], Distribution::Default, &device);
    assert_ne!(values(model.forward(x.clone())), values(model.forward(x.clone())));
    let (model, x) = (model.valid(), x.inner());
    assert_eq!(values(model.forward(x.clone())), values(model.forward(x)));
}
