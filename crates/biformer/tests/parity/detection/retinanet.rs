//! Family `mm_retina_head`: outputs, losses, gradients and detections of mmdetection's head.

use std::path::Path;

use biformer::Precision;
use biformer::detection::{
    DetectOptions, GroundTruth, PictureSize, RetinaHead, RetinaHeadConfig, RetinaOutput,
};
use biformer::train::NamedGradients;
use biformer::weights::{KeyStyle, load_state_dict};
use burn::tensor::{Device, Tensor};

use super::super::fixtures::*;
use super::{boxes, pair};

/// Sums over some thousand logits; the noise is that of the logits.
const LOSS_TOLERANCE: f64 = 1e-5;

/// The bound of the fixtures' README.
const GRADIENT_TOLERANCE: f64 = 1e-4;

#[test]
fn outputs() {
    for_each_file("mm_retina_head", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let head = head(path, &fixture, &Device::default());
        let mut comparisons = 0;
        for head in [head.clone(), head.for_inference(Precision::F32)] {
            let RetinaOutput { logits, deltas } =
                head.forward(&levels(&inputs(&fixture, &Device::default())));
            for (prefix, maps) in [("cls", logits), ("reg", deltas)] {
                for (level, map) in maps.into_iter().enumerate() {
                    let what = format!("{prefix}{level}");
                    let expected = fixture.state_tensor(&what);
                    let map = map.permute([0, 3, 1, 2]);
                    assert_eq!(map.dims().as_slice(), expected.shape, "{what}");
                    assert_close(&what, &values(map), &expected.data, OUTPUT_TOLERANCE);
                    comparisons += 1;
                }
            }
        }
        Ok(comparisons)
    });
}

#[test]
fn losses_and_gradients() {
    for_each_file("mm_retina_head", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default().autodiff();
        let head = head(path, &fixture, &device);
        let inputs = inputs(&fixture, &device).map(Tensor::require_grad);
        let losses = head.losses(&head.forward(&levels(&inputs)), &[truth(&fixture)]);
        for (what, found) in [("loss_cls", &losses.loss_cls), ("loss_bbox", &losses.loss_bbox)] {
            let found = values(Tensor::cat(found.clone(), 0));
            assert_close(what, &found, &fixture.state_tensor(what).data, LOSS_TOLERANCE);
        }
        let all = [losses.loss_cls, losses.loss_bbox].concat();
        let gradients = Tensor::cat(all, 0).sum().backward();
        for (level, input) in inputs.iter().enumerate() {
            let what = format!("g.in{level}");
            let found = values(input.grad(&gradients).expect("a gradient"));
            let expected = &fixture.state_tensor(&what).data;
            assert_close_l2(&what, &found, expected, GRADIENT_TOLERANCE);
        }
        let mut gradients = NamedGradients::collect(&head, gradients, KeyStyle::BiFormer);
        let expected = fixture.group("g.").into_iter().filter(|(key, _)| !key.starts_with("in"));
        let mut comparisons = 2 + inputs.len();
        for (key, expected) in expected {
            let found = values(gradients.remove(&key).unwrap_or_else(|| panic!("no {key}")));
            assert_close_l2(&key, &found, &expected.data, GRADIENT_TOLERANCE);
            comparisons += 1;
        }
        Ok(comparisons)
    });
}

#[test]
fn detections() {
    for_each_file("mm_retina_head", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default();
        let head = head(path, &fixture, &device);
        let output = head.forward(&levels(&inputs(&fixture, &device)));
        let size = truth(&fixture).size;
        let found = head
            .detections(&output, &[size], &DetectOptions::default())
            .expect("numbers")
            .remove(0);
        let labels: Vec<usize> = found.iter().map(|found| found.label).collect();
        assert_eq!(labels, fixture.labels("det_labels"));
        let rows = found.iter().flat_map(|found| {
            let [x1, y1, x2, y2] = found.bbox;
            [x1, y1, x2, y2, found.score]
        });
        let (found, expected) = (rows.collect::<Vec<_>>(), fixture.state_tensor("det_bboxes"));
        assert_close("det_bboxes", &found, &expected.data, OUTPUT_TOLERANCE);
        // Next to coordinates of 100 pixels, scores would have a hundredth of the bound.
        let scores = |rows: &[f32]| rows.iter().skip(4).step_by(5).copied().collect::<Vec<_>>();
        assert_close("scores", &scores(&found), &scores(&expected.data), OUTPUT_TOLERANCE);

        // In a file twice as high and three times as wide, so are the boxes.
        let larger = PictureSize { original: [2 * size.original[0], 3 * size.original[1]], ..size };
        let in_larger = head
            .detections(&output, &[larger], &DetectOptions::default())
            .expect("numbers")
            .remove(0);
        let [width, height] = [
            in_larger[0].bbox[2] - in_larger[0].bbox[0],
            in_larger[0].bbox[3] - in_larger[0].bbox[1],
        ];
        let expected = [3.0 * (found[2] - found[0]), 2.0 * (found[3] - found[1])];
        assert_close("a larger file", &[width, height], &expected, OUTPUT_TOLERANCE);
        Ok(4)
    });
}

fn head(path: &Path, fixture: &Fixture, device: &Device) -> RetinaHead {
    let number = |key: &str| fixture.config()[key].as_u64().expect("a number") as usize;
    let config = RetinaHeadConfig {
        pyramid_channels: number("in_channels"),
        channels: number("feat_channels"),
        stacked_convs: number("stacked_convs"),
    };
    let head = config.init(number("num_classes"), device);
    load_state_dict(head, fixture.group("w."), KeyStyle::BiFormer)
        .unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()))
}

/// The levels, `[1, channels, height, width]`.
fn inputs(fixture: &Fixture, device: &Device) -> [Tensor<4>; 5] {
    std::array::from_fn(|level| fixture.tensor(&format!("in{level}"), device))
}

/// The levels, channels-last.
fn levels(inputs: &[Tensor<4>; 5]) -> Vec<Tensor<4>> {
    inputs.iter().map(|input| input.clone().permute([0, 2, 3, 1])).collect()
}

fn truth(fixture: &Fixture) -> GroundTruth {
    let resized = pair(&fixture.meta["img_shape"]);
    GroundTruth {
        boxes: boxes(fixture, "gt_bboxes"),
        masks: Vec::new(),
        seed: 0,
        labels: fixture.labels("gt_labels"),
        size: PictureSize { original: resized, resized, padded: pair(&fixture.meta["pad_shape"]) },
    }
}
