//! Small random models that timm has computed; `fixtures/export_timm.py` writes them.

use std::path::Path;

use biformer::attention::StlMechanism;
use biformer::classification::ImageClassifierConfig;
use biformer::models::BiFormerConfig;
use biformer::weights::{load_state_dict, read_state_dict};
use burn::tensor::{Device, Tensor, TensorData};

use super::values;

const CLASSES: usize = 10;

/// That of the script.
fn picture() -> Tensor<4> {
    let shape = [2, 3, 224, 224];
    let number = |n: u64| ((31 * n * n + 17 * n) % 1009) as f64 / 504.5 - 1.0;
    let numbers: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|n| number(n as u64) as f32).collect();
    Tensor::from_data(TensorData::new(numbers, shape), &Device::default())
}

#[test]
fn swin_twins_and_maxvit_have_timms_logits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    for (name, config) in [
        ("swin", BiFormerConfig::swin_tiny()),
        ("twins", BiFormerConfig::stl_with(StlMechanism::SpatiallySeparable)),
        ("maxvit", BiFormerConfig::stl_with(StlMechanism::BlockGrid)),
    ] {
        let config = BiFormerConfig { depths: [2; 4], embed_dims: [8, 16, 32, 64], ..config };
        let config = config.with_head_dim(8);
        let path = folder.join(format!("timm_{name}.safetensors"));
        let mut weights = read_state_dict(&path).expect("a file of timm's numbers");
        let expected = weights.remove("logits").expect("logits").data;
        let style = config.key_style();
        let model = ImageClassifierConfig::new(config).with_num_classes(CLASSES);
        let model = load_state_dict(model.init(&Device::default()), weights, style);
        let model = model.expect("timm's weights");
        let check = |what: &str, logits: Tensor<2>| {
            assert_eq!(logits.dims(), [2, CLASSES]);
            for (found, expected) in values(logits).into_iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{name}, {what}: {found}, {expected}");
            }
        };
        check("as it is", model.forward(picture()));
        check("for inference", model.for_inference().forward(picture()));
    }
}
