//! Families `mm_fpn_*`, `op_fpn_torchvision`, `op_resize_pool`, `mm_semantic_fpn`, `mm_upernet`,
//! `mm_fcn_aux`, and the losses of pixels in `train_losses`: pyramids, heads and losses of dense tasks.

use std::path::Path;

use biformer::Precision;
use biformer::layers::{
    CoarserLevels, Fpn, FpnConfig, TransposedConv, adaptive_avg_pool, resize_bilinear,
    resize_nearest,
};
use biformer::segmentation::{
    FcnHeadConfig, MeanOver, SegmentorOutput, SemanticFpnConfig, UperHeadConfig, pixel_accuracy,
    pixel_classes, pixel_cross_entropy, resize_logits, segmentation_losses,
};
use biformer::weights::{KeyStyle, StateDict, load_state_dict};
use burn::module::Module;
use burn::nn::GroupNormConfig;
use burn::tensor::module::{conv_transpose2d, interpolate};
use burn::tensor::ops::{ConvTransposeOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::fixtures::*;

/// A loss is a mean over 20,480 pixels; it has the noise of the logits, some 1e-6 of them.
const LOSS_TOLERANCE: f64 = 1e-5;

#[test]
fn pyramids() {
    for_each_file("mm_fpn_", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let number = |key: &str| fixture.config()[key].as_u64().map(|number| number as usize);
        let maps = &maps(&fixture, &Device::default())[number("start_level").unwrap_or(0)..];
        let num_outs = number("num_outs").expect("num_outs");
        let coarser_levels = match fixture.config()["add_extra_convs"].as_str() {
            Some("on_input") => CoarserLevels::OnInput,
            Some(other) => return Err(format!("extra convolutions {other}")),
            None if num_outs > maps.len() => CoarserLevels::MaxPool,
            None => CoarserLevels::None,
        };
        let weights = fixture.group("w.");
        let levels = check_pyramid(path, &fixture, maps, weights, coarser_levels, "out");
        assert_eq!(levels, num_outs, "{}: levels", path.display());
        Ok(2 * levels)
    });
}

#[test]
fn torchvision_pyramid() {
    for_each_file("op_fpn_torchvision", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let maps = maps(&fixture, &Device::default());
        let weights = fixture.group("w.").into_iter().map(|(key, tensor)| {
            let parts: Vec<&str> = key.split('.').collect();
            let [block, level, "0", leaf] = parts[..] else { panic!("a key `{key}`") };
            let convs = if block == "inner_blocks" { "lateral_convs" } else { "fpn_convs" };
            (format!("{convs}.{level}.conv.{leaf}"), tensor)
        });
        let weights = weights.collect();
        Ok(2 * check_pyramid(path, &fixture, &maps, weights, CoarserLevels::None, "out"))
    });
}

#[test]
fn semantic_fpn() {
    for_each_file("mm_semantic_fpn", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let maps = maps(&fixture, &Device::default());
        let neck = fixture.group("neck.w.");
        let levels =
            check_pyramid(path, &fixture, &maps, neck.clone(), CoarserLevels::None, "neck");
        let pyramid = pyramid(path, &maps, neck, CoarserLevels::None);
        let weights = fixture.group("w.");
        let [num_classes, channels] = last_layer(&weights);
        let pyramid_channels = pyramid.config.channels_out;
        let head = SemanticFpnConfig { pyramid_channels, channels };
        let head = load(path, head.init(num_classes, &Device::default()), weights);
        let mut comparisons = 2 * levels;
        for head in [head.clone(), head.for_inference(Precision::F32)] {
            let logits = head.forward(&pyramid.forward(&maps));
            comparisons += check_head(path, &fixture, logits);
        }
        Ok(comparisons)
    });
}

#[test]
fn upernet() {
    for_each_file("mm_upernet", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let maps = maps(&fixture, &Device::default());
        let weights = fixture.group("w.");
        let [num_classes, channels] = last_layer(&weights);
        let channels_in = std::array::from_fn(|i| maps[i].dims()[3]);
        let head = UperHeadConfig { channels_in, channels };
        let head = load(path, head.init(num_classes, &Device::default()), weights);
        let mut comparisons = 0;
        for head in [head.clone(), head.for_inference(Precision::F32)] {
            comparisons += check_head(path, &fixture, head.forward(&maps));
        }
        Ok(comparisons)
    });
}

#[test]
fn auxiliary_fcn() {
    for_each_file("mm_fcn_aux", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let maps = maps(&fixture, &Device::default());
        let map = fixture.config()["in_index"].as_u64().expect("in_index") as usize;
        let weights = fixture.group("w.");
        let [num_classes, channels] = last_layer(&weights);
        let head = FcnHeadConfig { channels_in: maps[map].dims()[3], channels };
        let head = load(path, head.init(num_classes, &Device::default()), weights);
        let mut comparisons = 0;
        for head in [head.clone(), head.for_inference(Precision::F32)] {
            comparisons += check_head(path, &fixture, head.forward(maps[map].clone()));
        }
        Ok(comparisons)
    });
}

/// What maps are resized with, the transposed convolution of pyramids, and what the heads of detection will
/// take from Burn.
#[test]
fn resize_and_pool() {
    for_each_file("op_resize_pool", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default();
        let x = fixture.tensor::<4>("x", &device);
        let mut comparisons = 0;
        let mut check = |what: &str, found: Tensor<4>| {
            let expected = fixture.state_tensor(what);
            assert_eq!(found.dims().as_slice(), expected.shape, "{what}");
            assert_close(what, &values(found), &expected.data, OUTPUT_TOLERANCE);
            comparisons += 1;
        };
        let channels_last = || x.clone().permute([0, 2, 3, 1]);
        let channels_first = |x: Tensor<4>| x.permute([0, 3, 1, 2]);
        for [height, width] in [[7, 9], [26, 34], [32, 40], [50, 66]] {
            let bilinear = resize_bilinear(channels_last(), [height, width]);
            check(&format!("bilinear_{height}x{width}"), channels_first(bilinear));
            let nearest = resize_nearest(channels_last(), [height, width]);
            check(&format!("nearest_{height}x{width}"), channels_first(nearest));
            let options = InterpolateOptions::new(InterpolateMode::Bilinear)
                .with_align_corners(true)
                .with_output_size([height, width]);
            check(&format!("bilinear_ac_{height}x{width}"), interpolate(x.clone(), options));
        }
        for cells in [1, 2, 3, 6] {
            let pooled = adaptive_avg_pool(channels_last(), cells);
            check(&format!("adaptive_avg_{cells}"), channels_first(pooled));
        }
        let weight = fixture.tensor::<4>("deconv.weight", &device);
        let bias = fixture.tensor::<1>("deconv.bias", &device);
        let options = ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1);
        check("deconv2x2s2", conv_transpose2d(x.clone(), weight, Some(bias), options));
        let deconv = TransposedConv::new([4, 3], &device);
        let deconv = load(path, deconv, fixture.group("deconv."));
        for deconv in [deconv.clone(), deconv.for_inference(Precision::F32)] {
            check("deconv2x2s2", channels_first(deconv.forward(channels_last())));
        }
        let [_, channels, ..] = x.dims();
        let mut norm = GroupNormConfig::new(2, channels).init(&device);
        let [weight, bias] =
            ["gn.weight", "gn.bias"].map(|name| fixture.tensor::<1>(name, &device));
        norm.gamma = norm.gamma.map(|gamma| gamma.map(|_| weight));
        norm.beta = norm.beta.map(|beta| beta.map(|_| bias));
        check("groupnorm2", norm.forward(x.clone()));
        Ok(comparisons)
    });
}

#[test]
fn losses() {
    for_each_file("train_losses", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default();
        let (shape, labels) = fixture.routing("seg.target").clone();
        let labels = Tensor::<3, Int>::from_data(TensorData::new(labels, shape), &device);
        let means = [
            ("seg.ce_mean_over_all_pixels(mmseg)", MeanOver::AllPixels),
            ("seg.ce_mean_over_valid(torch)", MeanOver::LabelledPixels),
        ];
        for (name, mean_over) in means {
            let logits = fixture.tensor::<4>("seg.logits", &device);
            let loss = values(pixel_cross_entropy(logits, labels.clone(), mean_over));
            assert_close(name, &loss, &fixture.state_tensor(name).data, 1e-6);
        }
        Ok(means.len())
    });
}

/// The maps C2–C5, channels-last.
fn maps(fixture: &Fixture, device: &Device) -> Vec<Tensor<4>> {
    let map = |i| fixture.tensor::<4>(&format!("in{i}"), device).permute([0, 2, 3, 1]);
    (0..4).map(map).collect()
}

/// Classes and channels of a head.
fn last_layer(weights: &StateDict) -> [usize; 2] {
    let shape = &weights["conv_seg.weight"].shape;
    [shape[0], shape[1]]
}

fn load<M: Module>(path: &Path, module: M, weights: StateDict) -> M {
    load_state_dict(module, weights, KeyStyle::BiFormer)
        .unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()))
}

fn pyramid(
    path: &Path,
    maps: &[Tensor<4>],
    weights: StateDict,
    coarser_levels: CoarserLevels,
) -> Fpn {
    let config = FpnConfig {
        channels_in: maps.iter().map(|map| map.dims()[3]).collect(),
        channels_out: weights["fpn_convs.0.conv.bias"].shape[0],
        coarser_levels,
    };
    load(path, config.init(&Device::default()), weights)
}

/// Compares every level, as it is trained and for inference, and returns their number.
fn check_pyramid(
    path: &Path,
    fixture: &Fixture,
    maps: &[Tensor<4>],
    weights: StateDict,
    coarser_levels: CoarserLevels,
    out: &str,
) -> usize {
    let pyramid = pyramid(path, maps, weights, coarser_levels);
    let prepared = pyramid.clone().for_inference(Precision::F32);
    let mut count = 0;
    for pyramid in [pyramid, prepared] {
        let levels = pyramid.forward(maps);
        count = levels.len();
        for (i, level) in levels.into_iter().enumerate() {
            let what = format!("{} {out}{i}", name(path));
            let expected = fixture.state_tensor(&format!("{out}{i}"));
            let level = level.permute([0, 3, 1, 2]);
            assert_eq!(level.dims().as_slice(), expected.shape, "{what}");
            assert_close(&what, &values(level), &expected.data, OUTPUT_TOLERANCE);
        }
    }
    count
}

/// Compares the logits of a head, the classes at full size, loss and accuracy.
fn check_head(path: &Path, fixture: &Fixture, logits: Tensor<4>) -> usize {
    let what = |part: &str| format!("{} {part}", name(path));
    let device = logits.device();
    let expected = fixture.state_tensor("logits");
    assert_eq!(logits.dims().as_slice(), expected.shape, "{}", what("logits"));
    assert_close(&what("logits"), &values(logits.clone()), &expected.data, OUTPUT_TOLERANCE);

    let (shape, labels) = &fixture.bytes["label"];
    let &[batch, 1, height, width] = &shape[..] else { panic!("labels {shape:?}") };
    let labels: Vec<i64> = labels.iter().map(|&label| label.into()).collect();
    let labels = TensorData::new(labels, [batch, height, width]);
    let labels = Tensor::<3, Int>::from_data(labels, &device);
    let full = resize_logits(logits.clone(), [height, width]);
    let classes = pixel_classes(full.clone()).into_data_as::<i64>();
    let classes: Vec<i64> = classes.try_into_vec().expect("classes");
    let expected = fixture.bytes["argmax_fullres"].1.iter().map(|&class| i64::from(class));
    assert!(expected.eq(classes), "{}", what("argmax_fullres"));

    let losses = segmentation_losses(SegmentorOutput { logits, auxiliary: None }, labels.clone());
    let expected = &fixture.state_tensor("loss.loss_ce").data;
    assert_close(&what("loss_ce"), &values(losses.loss), expected, LOSS_TOLERANCE);
    let expected = &fixture.state_tensor("loss.acc_seg").data;
    assert_close(&what("acc_seg"), &values(losses.decode_acc_seg), expected, 1e-6);
    assert_close(&what("accuracy"), &values(pixel_accuracy(full, labels)), expected, 1e-6);
    4
}
