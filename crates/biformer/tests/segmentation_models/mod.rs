//! What the tests of segmentors share: a small model, weights that are not those of the start.

mod files;
mod losses;
mod maps;

use crate::numbers::number;
use biformer::data::segmentation::TestResize;
use biformer::models::BiFormerConfig;
use biformer::segmentation::*;
use biformer::weights::{load_state_dict, state_dict};
use burn::tensor::{Device, Int, Tensor, TensorData};

const CLASSES: usize = 5;

/// Narrow heads on a backbone of one block a stage.
fn config(method: &str) -> SegmentorConfig {
    let backbone = BiFormerConfig::pico();
    let mut config = SegmentorConfig::from_names("biformer_pico", method).expect("known names");
    config.num_classes = CLASSES;
    config.decode_head = match config.decode_head {
        DecodeHeadConfig::SemanticFpn(_) => {
            DecodeHeadConfig::SemanticFpn(SemanticFpnConfig { pyramid_channels: 24, channels: 16 })
        }
        DecodeHeadConfig::Uper(..) => DecodeHeadConfig::Uper(
            UperHeadConfig { channels_in: backbone.embed_dims, channels: 20 },
            FcnHeadConfig { channels_in: backbone.embed_dims[2], channels: 12 },
        ),
        linear @ DecodeHeadConfig::Linear(_) => linear, // has no width
    };
    config
}

fn info(method: &str) -> SegmentorInfo {
    let classes: Vec<_> = (0..CLASSES).map(|class| format!("thing {class}")).collect();
    SegmentorInfo {
        model: "biformer_pico".to_owned(),
        method: method.to_owned(),
        palette: vec![[1, 2, 3]; classes.len()],
        classes,
        resize: TestResize { img_scale: [64, 32], size_divisor: 16 },
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32")
}

fn labels(classes: &[i64], shape: [usize; 3], device: &Device) -> Tensor<3, Int> {
    Tensor::from_data(TensorData::new(classes.to_vec(), shape), device)
}

/// Weights that keep the size of numbers, the same in each run and not those of the start, where norms
/// are the identity.
fn disturbed(model: Segmentor) -> Segmentor {
    let style = model.backbone.key_style();
    let mut weights = state_dict(&model, style);
    for (seed, (key, tensor)) in weights.iter_mut().enumerate() {
        let fan_in: usize = tensor.shape[1..].iter().product();
        let (scale, middle) = match tensor.shape.len() {
            1 if key.ends_with("weight") || key.contains("running_var") => (0.4, 1.0),
            1 => (0.2, 0.0),
            _ => ((3.0 / fan_in as f32).sqrt(), 0.0),
        };
        for (i, value) in tensor.data.iter_mut().enumerate() {
            *value = middle + scale * number(seed, i);
        }
    }
    load_state_dict(model, weights, style).expect("its own keys")
}
