//! Families `op_roialign`, `mm_rpn_head` and `mm_roi_heads`: both stages of Mask R-CNN.

use std::path::Path;

use biformer::Precision;
use biformer::data::detection::{Bitmap, Rle};
use biformer::detection::{
    BoxHeadConfig, DetectOptions, GroundTruth, MaskHeadConfig, NmsOptions, PictureSize,
    ProposalOptions, RandomSampler, RoiExtractor, RpnHeadConfig, Xyxy, box_losses, box_targets,
    detected_boxes, mask_loss, mask_targets, masks_of, paste_mask, sample_regions,
};
use biformer::weights::{KeyStyle, StateDict, load_state_dict};
use biformer_ops as ops;
use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::sigmoid};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::fixtures::*;
use super::{boxes, pair};

/// A loss is a mean over hundreds of numbers; it has the noise of the outputs, some 1e-6 of them.
const LOSS_TOLERANCE: f64 = 1e-5;

#[test]
fn roi_align() {
    for_each_file("op_roialign", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default();
        let map = channels_last(fixture.tensor("feat", &device));
        let coefficients = channels_last(fixture.tensor("coef", &device));
        let rois = fixture.state_tensor("rois").data.chunks(5).map(|roi| ops::Roi {
            picture: roi[0] as usize,
            xyxy: roi[1..].try_into().expect("four corners"),
        });
        let rois: Vec<ops::Roi> = rois.collect();
        let spatial_scale = fixture.meta["spatial_scale"].as_f64().expect("spatial_scale") as f32;
        let mut comparisons = 0;
        for name in fixture.floats.keys().filter(|name| name.contains("out")) {
            let number = |prefix: &str| -> usize {
                let part = name.split('_').find_map(|part| part.strip_prefix(prefix));
                part.and_then(|part| part.parse().ok()).expect("a number")
            };
            let options = ops::RoiAlignOptions {
                output_size: number("out"),
                spatial_scale,
                sampling_ratio: number("s"),
                aligned: number("aligned") == 1,
            };
            let map = map.clone().autodiff().require_grad();
            let output = ops::roi_align(map.clone(), &rois, &options);
            let (found, tolerance) = if name.starts_with("grad_feat_") {
                let loss = (output * coefficients.clone().autodiff()).sum();
                (map.grad(&loss.backward()).expect("a gradient"), 1e-4)
            } else {
                (output.inner(), OUTPUT_TOLERANCE)
            };
            let found = values(channels_first(found));
            assert_close(name, &found, &fixture.state_tensor(name).data, tolerance);
            comparisons += 1;
        }
        Ok(comparisons)
    });
}

#[test]
fn rpn_head() {
    for_each_file("mm_rpn_head", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default();
        let levels = maps(&fixture, "in", 5, &device);
        let [.., channels] = levels[0].dims();
        let head = load(path, RpnHeadConfig { channels }.init(&device), fixture.group("w."));
        let output = head.forward(&levels);
        let mut comparisons = 0;
        for (level, (logits, deltas)) in output.logits.iter().zip(&output.deltas).enumerate() {
            for (what, found) in [("cls", logits), ("reg", deltas)] {
                check_map(&fixture, &format!("{what}{level}"), found.clone());
                comparisons += 1;
            }
        }

        let truth = truth(&fixture, &levels[0]);
        let size = truth.size;
        let sampler = everything(&fixture);
        let losses = head.losses(&output, &[truth], &sampler, &mut [rng()]);
        for (what, found) in
            [("loss_rpn_cls", losses.loss_rpn_cls), ("loss_rpn_bbox", losses.loss_rpn_bbox)]
        {
            let found = values(Tensor::cat(found, 0));
            assert_close(what, &found, &fixture.state_tensor(what).data, LOSS_TOLERANCE);
            comparisons += 1;
        }

        let config = &fixture.config()["test_cfg"];
        let number = |key: &str| config[key].as_u64().expect("a number") as usize;
        let options = ProposalOptions {
            nms_pre: number("nms_pre"),
            nms: NmsOptions { max: number("max_per_img"), ..ProposalOptions::TEST.nms },
        };
        let found = head.proposals(&output, &[size], &options).expect("numbers").remove(0);
        let found: Vec<f32> = found
            .into_iter()
            .flat_map(|proposal| proposal.bbox.into_iter().chain([proposal.score]))
            .collect();
        check_scored(&fixture, "proposals", &found);
        Ok(comparisons + 1)
    });
}

#[test]
fn roi_heads() {
    for_each_file("mm_roi_heads", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let comparisons = check_boxes_of_regions(path, &fixture);
        Ok(comparisons + check_masks_of_regions(path, &fixture))
    });
}

/// Levels, features, outputs, detections, targets and losses of boxes.
fn check_boxes_of_regions(path: &Path, fixture: &Fixture) -> usize {
    let device = Device::default();
    let levels = maps(fixture, "feat", 4, &device);
    let proposals = boxes(fixture, "proposals");
    let extractor = extractor(fixture, RoiExtractor::BOXES);
    let found: Vec<usize> = proposals.iter().map(|&roi| extractor.level(roi, 4)).collect();
    assert_eq!(found, fixture.labels("roi_level"), "roi_level");
    let features = extractor.forward(&levels, &rois(&proposals));
    check_map(fixture, "bbox_feats", features.clone());

    let num_classes = number(fixture, "num_classes");
    let config = BoxHeadConfig {
        channels_in: number(fixture, "in_channels"),
        channels: number(fixture, "fc_out_channels"),
    };
    let head = load(path, config.init(num_classes, &device), fixture.group("bbox_head.w."));
    let truth = truth(fixture, &levels[0]);
    for head in [head.clone(), head.clone().for_inference(Precision::F32)] {
        let output = head.forward(features.clone());
        let parts = [("cls_score", &output.cls_score), ("bbox_pred", &output.bbox_pred)];
        for (what, found) in parts {
            let expected = &fixture.state_tensor(what).data;
            assert_close(what, &values(found.clone()), expected, OUTPUT_TOLERANCE);
        }
        let options = DetectOptions::default();
        let found = detected_boxes(output, &proposals, truth.size.resized, &options);
        let found = found.expect("numbers");
        let labels: Vec<usize> = found.iter().map(|found| found.label).collect();
        assert_eq!(labels, fixture.labels("det_labels"), "det_labels");
        let found: Vec<f32> =
            found.iter().flat_map(|found| found.bbox.into_iter().chain([found.score])).collect();
        check_scored(fixture, "det_bboxes", &found);
    }

    let sampled = sample_regions(&proposals, &truth.boxes, &everything(fixture), &mut rng());
    let regions: Vec<Xyxy> = sampled.iter().map(|region| region.bbox).collect();
    check_boxes(fixture, "sampled_bboxes", &regions);
    let positive = sampled.iter().filter(|region| region.object.is_some()).count();
    assert_eq!(positive, fixture.labels("num_pos")[0], "num_pos");

    let targets = box_targets(&sampled, &truth, num_classes);
    let found: Vec<usize> = targets.iter().map(|target| target.label).collect();
    assert_eq!(found, fixture.labels("tgt.labels"), "tgt.labels");
    let deltas: Vec<Xyxy> =
        targets.iter().map(|target| target.deltas.unwrap_or_default()).collect();
    check_boxes(fixture, "tgt.bbox_targets", &deltas);
    let weights = targets.iter().map(|target| [f32::from(u8::from(target.deltas.is_some())); 4]);
    let weights: Vec<Xyxy> = weights.collect();
    assert_eq!(weights.as_flattened(), fixture.state_tensor("tgt.bbox_weights").data);
    assert!(fixture.state_tensor("tgt.label_weights").data.iter().all(|&weight| weight == 1.0));

    let output = head.forward(extractor.forward(&levels, &rois(&regions)));
    let losses = box_losses(output, &targets);
    for (what, found) in [("loss_cls", losses.loss_cls), ("loss_bbox", losses.loss_bbox)] {
        let expected = &fixture.state_tensor(what).data;
        assert_close(what, &values(found), expected, LOSS_TOLERANCE);
    }
    18
}

/// Features, outputs, targets, loss and pasted masks.
fn check_masks_of_regions(path: &Path, fixture: &Fixture) -> usize {
    let device = Device::default();
    let levels = maps(fixture, "feat", 4, &device);
    let extractor = extractor(fixture, RoiExtractor::MASKS);
    let num_classes = number(fixture, "num_classes");
    let config = MaskHeadConfig {
        channels: number(fixture, "in_channels"),
        num_convs: number(fixture, "mask_convs"),
    };
    let head = load(path, config.init(num_classes, &device), fixture.group("mask_head.w."));

    let (shape, expected) = &fixture.bytes["pasted_masks"];
    let &[count, height, width] = &shape[..] else { panic!("masks {shape:?}") };
    let detections: Vec<Xyxy> = fixture
        .state_tensor("det_bboxes")
        .data
        .chunks(5)
        .take(count)
        .map(|found| found[..4].try_into().expect("four corners"))
        .collect();
    let labels = &fixture.labels("det_labels")[..count];
    let features = extractor.forward(&levels, &rois(&detections));
    check_map(fixture, "mask_feats", features.clone());
    for head in [head.clone(), head.clone().for_inference(Precision::F32)] {
        let logits = head.forward(features.clone());
        check_map(fixture, "mask_pred", logits.clone());
        let [_, cells, ..] = logits.dims();
        let probabilities = values(sigmoid(masks_of(logits, labels)));
        let masks = probabilities.chunks(cells * cells).zip(&detections);
        let masks = masks.flat_map(|(mask, &bbox)| {
            paste_mask(mask, cells, bbox, [height, width], 0.5).into_raw()
        });
        let wrong = masks.zip(expected).filter(|&(found, &expected)| found != expected).count();
        assert_eq!(wrong, 0, "pasted_masks: pixels of {}", expected.len());
    }

    let truth = truth(fixture, &levels[0]);
    let proposals = boxes(fixture, "proposals");
    let sampled = sample_regions(&proposals, &truth.boxes, &everything(fixture), &mut rng());
    let regions: Vec<(Xyxy, usize)> =
        sampled.iter().filter_map(|region| Some((region.bbox, region.object?))).collect();
    let (shape, expected) = &fixture.bytes["mask_targets"];
    let targets = mask_targets(&truth.masks, &regions, shape[1], &device);
    assert_eq!(targets.dims().as_slice(), shape, "mask_targets");
    let found = values(targets.clone());
    let wrong = found.iter().zip(expected).filter(|&(f, &e)| *f != f32::from(e)).count();
    assert_eq!(wrong, 0, "mask_targets: cells of {}", expected.len());
    let (regions, of_object): (Vec<Xyxy>, Vec<usize>) = regions.into_iter().unzip();
    let labels: Vec<usize> = of_object.into_iter().map(|object| truth.labels[object]).collect();
    let logits = head.forward(extractor.forward(&levels, &rois(&regions)));
    let loss = values(mask_loss(logits, &labels, targets));
    assert_close("loss_mask", &loss, &fixture.state_tensor("loss_mask").data, LOSS_TOLERANCE);
    7
}

/// What the fixture says of its picture, whose finest map is `finest`.
fn truth(fixture: &Fixture, finest: &Tensor<4>) -> GroundTruth {
    let [_, height, width, _] = finest.dims();
    let resized = pair(&fixture.meta["img_shape"]);
    let boxes = boxes(fixture, "gt_bboxes");
    // Proposals have no classes, and no masks.
    let second_stage = fixture.bytes.get("gt_masks");
    let masks = second_stage.map_or_else(Vec::new, |(shape, pixels)| {
        let &[_, height, width] = &shape[..] else { panic!("masks {shape:?}") };
        let bitmap = |pixels: &[u8]| Bitmap::from_raw(width as u32, height as u32, pixels.to_vec());
        let masks = pixels.chunks(height * width).map(bitmap);
        masks.map(|bitmap| Rle::encode(&bitmap.expect("a mask"))).collect()
    });
    GroundTruth {
        labels: match second_stage {
            Some(_) => fixture.labels("gt_labels"),
            None => vec![0; boxes.len()],
        },
        boxes,
        masks,
        size: PictureSize { original: resized, resized, padded: [4 * height, 4 * width] },
        seed: 0,
    }
}

/// Samples all there is: no draw, so that numbers can be compared.
fn everything(fixture: &Fixture) -> RandomSampler {
    let config = &fixture.config()["train_cfg"]["sampler"];
    RandomSampler {
        num: config["num"].as_u64().expect("a number") as usize,
        positive_fraction: config["pos_fraction"].as_f64().expect("a fraction"),
    }
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn extractor(fixture: &Fixture, extractor: RoiExtractor) -> RoiExtractor {
    RoiExtractor { finest_scale: number(fixture, "finest_scale") as f32, ..extractor }
}

fn number(fixture: &Fixture, key: &str) -> usize {
    fixture.config()[key].as_u64().unwrap_or_else(|| panic!("a number {key}")) as usize
}

fn rois(boxes: &[Xyxy]) -> Vec<ops::Roi> {
    boxes.iter().map(|&xyxy| ops::Roi { picture: 0, xyxy }).collect()
}

fn load<M: Module>(path: &Path, module: M, weights: StateDict) -> M {
    load_state_dict(module, weights, KeyStyle::BiFormer)
        .unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()))
}

/// Maps of a fixture, channels-last.
fn maps(fixture: &Fixture, name: &str, count: usize, device: &Device) -> Vec<Tensor<4>> {
    (0..count).map(|i| channels_last(fixture.tensor(&format!("{name}{i}"), device))).collect()
}

fn check_map(fixture: &Fixture, name: &str, found: Tensor<4>) {
    let expected = fixture.state_tensor(name);
    let found = channels_first(found);
    assert_eq!(found.dims().as_slice(), expected.shape, "{name}");
    assert_close(name, &values(found), &expected.data, OUTPUT_TOLERANCE);
}

fn check_boxes(fixture: &Fixture, name: &str, found: &[Xyxy]) {
    assert_close(name, found.as_flattened(), &fixture.state_tensor(name).data, OUTPUT_TOLERANCE);
}

/// Rows of four corners and a score, compared apart: corners are a hundred times as large.
fn check_scored(fixture: &Fixture, name: &str, found: &[f32]) {
    let expected = &fixture.state_tensor(name).data;
    assert_eq!(found.len(), expected.len(), "{name}");
    for column in 0..5 {
        let of =
            |rows: &[f32]| -> Vec<f32> { rows.iter().skip(column).step_by(5).copied().collect() };
        assert_close(
            &format!("{name}, column {column}"),
            &of(found),
            &of(expected),
            OUTPUT_TOLERANCE,
        );
    }
}

fn channels_last(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

fn channels_first(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 3, 1, 2])
}
