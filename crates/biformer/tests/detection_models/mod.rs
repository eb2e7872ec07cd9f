//! What the tests of detectors share: a small model, weights that are not those of the start.

mod files;
mod losses;
mod mask_rcnn;
mod outputs;

use crate::numbers::number;
use biformer::data::detection::ResizePad;
use biformer::detection::*;
use biformer::models::BiFormerConfig;
use biformer::weights::{load_state_dict, state_dict};
use burn::tensor::{Device, Tensor, TensorData};

const CLASSES: usize = 5;

/// A narrow head on a backbone of one block a stage.
fn config() -> DetectorConfig {
    let head = RetinaHeadConfig { pyramid_channels: 16, channels: 12, stacked_convs: 2 };
    let mut config = DetectorConfig::retinanet(BiFormerConfig::pico()).with_num_classes(CLASSES);
    config.heads = DetectorHeadsConfig::RetinaNet(head);
    config
}

fn info() -> DetectorInfo {
    DetectorInfo {
        model: "biformer_pico".to_owned(),
        method: "retinanet".to_owned(),
        classes: (0..CLASSES).map(|class| format!("thing {class}")).collect(),
        resize: ResizePad { size_divisor: 64, ..ResizePad::new([128, 96]) },
    }
}

fn size(side: usize) -> PictureSize {
    PictureSize { original: [side; 2], resized: [side; 2], padded: [side; 2] }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32")
}

/// Pictures without a pattern.
fn pictures(count: usize, side: usize, device: &Device) -> Tensor<4> {
    let pixels: Vec<f32> = (0..count * 3 * side * side).map(|i| 2.0 * number(999, i)).collect();
    Tensor::from_data(TensorData::new(pixels, [count, 3, side, side]), device)
}

/// Weights that keep the size of numbers, the same in each run and not those of the start, where norms
/// are the identity and every class is as unlikely.
fn disturbed(model: Detector) -> Detector {
    let style = model.backbone.config.key_style();
    let mut weights = state_dict(&model, style);
    for (seed, (key, tensor)) in weights.iter_mut().enumerate() {
        let fan_in: usize = tensor.shape[1..].iter().product();
        let (scale, middle) = match tensor.shape.len() {
            1 if key.starts_with("backbone.")
                && (key.ends_with("weight") || key.contains("running_var")) =>
            {
                (0.4, 1.0)
            }
            1 => (0.2, 0.0),
            _ => ((3.0 / fan_in as f32).sqrt(), 0.0),
        };
        for (i, value) in tensor.data.iter_mut().enumerate() {
            *value = middle + scale * number(seed, i);
        }
    }
    load_state_dict(model, weights, style).expect("its own keys")
}
