//! Families `mm_anchors`, `mm_boxes`, `op_anchors_torchvision`, `op_boxes` and `op_nms`: anchors, boxes relative
//! to them, what they stand for, and which of them are kept.

use super::super::fixtures::*;
use super::{boxes, floats, list, numbers, pair};
use biformer::detection::{
    AnchorGenerator, BoxCoder, Match, MaxIouAssigner, NmsOptions, Xyxy, clip, generalized_iou,
    grid, iou, nms,
};

#[test]
fn anchors() {
    for_each_file("mm_anchors", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let mut comparisons = 0;
        let expected = [("retina", AnchorGenerator::retinanet()), ("rpn", AnchorGenerator::rpn())];
        for (name, generator) in expected {
            let config = &fixture.config()[name];
            let strides: Vec<usize> = numbers(&config["strides"]);
            assert_eq!(generator.strides, strides, "{name}: strides");
            let sizes: Vec<[usize; 2]> = list(&config["feature_hw"]).iter().map(pair).collect();
            let padded = pair(&config["valid_flags_pad_hw"]);
            let (grids, valid) = (generator.grid_anchors(&sizes), generator.valid(&sizes, padded));
            for (level, (anchors, valid)) in grids.iter().zip(valid).enumerate() {
                let base = generator.base_anchors(level);
                assert_eq!(base.len(), generator.per_token());
                check_boxes(&fixture, &format!("{name}.base{level}"), &base);
                check_boxes(&fixture, &format!("{name}.grid{level}"), anchors);
                let flags = fixture.bytes[&format!("{name}.valid{level}")].1.iter();
                assert!(flags.map(|&flag| flag != 0).eq(valid), "{name}.valid{level}");
                comparisons += 3;
            }
        }
        Ok(comparisons)
    });
}

/// torchvision rounds the anchors of a token, has other scales on each level, and divides the picture by the map
/// instead of taking strides, with what remains left out.
#[test]
fn torchvision_anchors() {
    for_each_file("op_anchors_torchvision", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let strides: Vec<usize> = numbers(&fixture.meta["strides"]);
        let maps: Vec<[usize; 2]> = list(&fixture.meta["feature_hw"]).iter().map(pair).collect();
        let picture = maps[0].map(|tokens| tokens * strides[0]);
        let mut all = Vec::new();
        for (level, &stride) in strides.iter().enumerate() {
            let sizes: Vec<usize> = numbers(&fixture.meta["sizes"][level]);
            let generator = AnchorGenerator {
                strides: vec![stride],
                ratios: floats(&fixture.meta["ratios"]),
                scales: sizes.iter().map(|&size| size as f32 / stride as f32).collect(),
            };
            let base = generator.base_anchors(0);
            let rounded: Vec<Xyxy> =
                base.into_iter().map(|anchor| anchor.map(f32::round_ties_even)).collect();
            check_boxes(&fixture, &format!("cell{level}"), &rounded);
            let strides = std::array::from_fn(|axis| picture[axis] / maps[level][axis]);
            all.extend(grid(&rounded, strides, maps[level]));
        }
        check_boxes(&fixture, "anchors", &all);
        Ok(strides.len() + 1)
    });
}

#[test]
fn box_coding() {
    for_each_file("mm_boxes", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let image = pair(&fixture.meta["img_hw"]).map(|side| side as f32);
        for (name, coder) in [("std1", BoxCoder::UNIT), ("rcnn", BoxCoder::REGIONS)] {
            let anchors = boxes(&fixture, "anchors");
            check_coder(&fixture, coder, &anchors, [&format!("encode_{name}"), "gt"]);
            let deltas = format!("delta_{name}");
            let decoded =
                check_decoded(&fixture, coder, &anchors, [&deltas, &format!("decode_{name}")]);
            let clipped: Vec<Xyxy> =
                decoded.into_iter().map(|decoded| clip(decoded, image)).collect();
            check_boxes(&fixture, &format!("decode_clip_{name}"), &clipped);
        }
        Ok(6)
    });
}

#[test]
fn assignment() {
    for_each_file("mm_boxes", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let (candidates, objects) = (boxes(&fixture, "asg.cand"), boxes(&fixture, "asg.gt"));
        let labels = &fixture.routing("asg.gt_labels").1;
        let assigners = [
            ("retina", MaxIouAssigner::RETINANET),
            ("rpn", MaxIouAssigner::RPN),
            ("rcnn", MaxIouAssigner::REGIONS),
        ];
        for (name, assigner) in assigners {
            let found = assigner.assign(&candidates, &objects);
            let indices = found.matches.iter().map(|found| match found {
                Match::Ignored => -1,
                Match::Background => 0,
                Match::Object(object) => *object as i64 + 1,
            });
            let expected = &fixture.routing(&format!("asg.{name}.gt_inds")).1;
            assert!(indices.eq(expected.iter().copied()), "{name}: gt_inds");
            let of_object = found.matches.iter().map(|found| match found {
                Match::Object(object) => labels[*object],
                _ => -1,
            });
            let expected = &fixture.routing(&format!("asg.{name}.labels")).1;
            assert!(of_object.eq(expected.iter().copied()), "{name}: labels");
            let expected = &fixture.state_tensor(&format!("asg.{name}.max_overlaps")).data;
            assert_close(name, &found.max_overlaps, expected, OUTPUT_TOLERANCE);
        }
        Ok(3 * assigners.len())
    });
}

/// torchvision's weights are the reciprocals of deviations.
#[test]
fn torchvision_boxes() {
    for_each_file("op_boxes", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let (anchors, objects) = (boxes(&fixture, "anchors"), boxes(&fixture, "gt"));
        for (name, coder) in [("w1111", BoxCoder::UNIT), ("w10_10_5_5", BoxCoder::REGIONS)] {
            check_coder(&fixture, coder, &anchors, [&format!("encode_{name}"), "gt"]);
            let [deltas, decoded] = ["rel", "decode"].map(|part| format!("{part}_{name}"));
            check_decoded(&fixture, coder, &anchors, [&deltas, &decoded]);
        }
        for (name, measure) in [("iou", iou as fn(Xyxy, Xyxy) -> f32), ("giou", generalized_iou)] {
            let pairs = anchors.iter().flat_map(|&a| objects.iter().map(move |&b| measure(a, b)));
            let found: Vec<f32> = pairs.collect();
            assert_close(name, &found, &fixture.state_tensor(name).data, OUTPUT_TOLERANCE);
        }
        Ok(6)
    });
}

#[test]
fn suppression() {
    for_each_file("op_nms", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let boxes = boxes(&fixture, "boxes");
        let scores = &fixture.state_tensor("scores").data;
        let classes = fixture.labels("classes");
        let together = vec![0; boxes.len()];
        let mut comparisons = 0;
        for percent in [30u8, 50, 70] {
            let options = NmsOptions { iou_threshold: f32::from(percent) / 100.0, max: usize::MAX };
            for (prefix, groups) in [("", &together), ("batched_", &classes)] {
                let expected = fixture.labels(&format!("{prefix}keep_{percent}"));
                let kept = nms(&boxes, scores, groups, options);
                assert_eq!(kept, expected, "{}: {prefix}keep_{percent}", name(path));
                comparisons += 1;
            }
        }
        Ok(comparisons)
    });
}

fn check_boxes(fixture: &Fixture, name: &str, found: &[Xyxy]) {
    assert_close(name, found.as_flattened(), &fixture.state_tensor(name).data, OUTPUT_TOLERANCE);
}

fn check_coder(fixture: &Fixture, coder: BoxCoder, anchors: &[Xyxy], [name, of]: [&str; 2]) {
    let pairs = anchors.iter().zip(boxes(fixture, of));
    let found: Vec<Xyxy> = pairs.map(|(&anchor, target)| coder.encode(anchor, target)).collect();
    check_boxes(fixture, name, &found);
}

fn check_decoded(
    fixture: &Fixture,
    coder: BoxCoder,
    anchors: &[Xyxy],
    [deltas, name]: [&str; 2],
) -> Vec<Xyxy> {
    let pairs = anchors.iter().zip(boxes(fixture, deltas));
    let found: Vec<Xyxy> = pairs.map(|(&anchor, deltas)| coder.decode(anchor, deltas)).collect();
    check_boxes(fixture, name, &found);
    found
}
