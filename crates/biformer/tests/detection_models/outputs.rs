//! What detectors find.

use biformer::Precision;
use biformer::data::RgbImage;
use biformer::data::detection::ResizePad;
use biformer::detection::*;
use biformer::weights::{load_state_dict, state_dict};
use burn::tensor::Device;

use super::{config, disturbed, pictures, size};

/// Folded and packed, the model finds the same within rounding.
#[test]
fn inference_finds_the_same() {
    let device = Device::default();
    let model = disturbed(config().init(&device));
    let find = |model: &Detector| {
        let options = DetectOptions { max_per_image: 20, ..Default::default() };
        model.detect(pictures(2, 64, &device), &[size(64); 2], &options).expect("numbers")
    };
    let expected = find(&model);
    assert!(expected.iter().all(|found| found.len() == 20));
    let found = find(&model.for_inference_in(Precision::F32));
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert_eq!(found.label, expected.label);
        assert!((found.score - expected.score).abs() < 1e-4, "{found:?}, expected {expected:?}");
        for (found, expected) in found.bbox.iter().zip(expected.bbox) {
            assert!((found - expected).abs() < 1e-2, "{found}, expected {expected}");
        }
    }
}

/// Boxes lie in the picture as it is in the file, best first, each above the threshold.
#[test]
fn detections_are_those_of_the_picture() {
    let device = Device::default();
    let model = disturbed(config().init(&device)).for_inference();
    let image = RgbImage::from_fn(90, 61, image_pixel);
    let resize = ResizePad::new([128, 96]);
    let options = DetectOptions { score_threshold: 0.3, max_per_image: 7, ..Default::default() };
    let found = detect(&model, &image, &Inference { resize, options }, &device).expect("numbers");
    assert_eq!(found.len(), 7);
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    for Detection { bbox: [x1, y1, x2, y2], score, label, .. } in found {
        assert!(0.0 <= x1 && x1 <= x2 && x2 <= 90.01, "{x1} {x2}");
        assert!(0.0 <= y1 && y1 <= y2 && y2 <= 61.01, "{y1} {y2}");
        assert!(score > 0.3 && score <= 1.0 && label < 5);
    }
    let none = DetectOptions { score_threshold: 1.0, ..options };
    let found = detect(&model, &image, &Inference { resize, options: none }, &device);
    assert_eq!(found.expect("numbers"), []);

    let refused = |inference: Inference, word: &str| {
        let error = detect(&model, &image, &inference, &device).expect_err("out of range");
        assert!(error.to_string().contains(word), "{error}");
    };
    let inference = Inference { resize, options };
    let bad = |options| Inference { options, ..inference };
    refused(bad(DetectOptions { iou_threshold: 1.5, ..options }), "iou_threshold");
    refused(bad(DetectOptions { score_threshold: f32::NAN, ..options }), "score_threshold");
    refused(bad(DetectOptions { max_per_image: 0, ..options }), "max_per_image");
    refused(Inference { resize: ResizePad::new([9000, 9000]), ..inference }, "img_scale");
    refused(Inference { resize: ResizePad::new([0, 800]), ..inference }, "img_scale");
}

#[test]
fn broken_weights_are_told() {
    let device = Device::default();
    let model = config().init(&device);
    let style = model.backbone.config.key_style();
    let mut weights = state_dict(&model, style);
    weights.get_mut("bbox_head.retina_reg.bias").expect("a bias").data[0] = f32::NAN;
    let model = load_state_dict(model, weights, style).expect("its keys");
    let image = RgbImage::from_fn(64, 64, image_pixel);
    let inference = Inference::new(ResizePad::new([64, 64]));
    let error = detect(&model, &image, &inference, &device).expect_err("no numbers");
    assert!(error.to_string().contains("no numbers"), "{error}");
}

fn image_pixel(x: u32, y: u32) -> image::Rgb<u8> {
    image::Rgb([(x * 2) as u8, (y * 4) as u8, (x * y) as u8])
}
