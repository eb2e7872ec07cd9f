//! Family `ckpt_*`: one model in every layout that the official code and its forks write.

use std::path::Path;

use biformer::weights::{StateDict, StateTensor, load_state_dict, read_state_dict_from};
use burn::tensor::Device;

use super::fixtures::*;
use super::models::{config, load, num_classes};

#[test]
fn layouts() {
    let expected = files("ckpt_", &["safetensors"]);
    for_each_file("ckpt_", &["pth"], |path| match expected.first() {
        Some(expected) => Ok(check_layout(path, expected)),
        None => Err("the file with the expected weights is missing".to_owned()),
    });
    // The file of expectations is itself one: its weights must give its logits.
    for_each_file("ckpt_", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        Ok(check_logits(path, &fixture, fixture.group("w."), OUTPUT_TOLERANCE))
    });
}

fn check_layout(path: &Path, expected: &Path) -> usize {
    let fixture = Fixture::read(expected);
    let weights = fixture.group("w.");
    let half = name(path).contains("fp16");
    let keys: &[Option<&str>] = match name(path).contains("train") {
        true => &[None, Some("model"), Some("model_ema")],
        false => &[None],
    };
    let mut comparisons = 0;
    for key in keys {
        let found = read_state_dict_from(path, *key)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(found.keys().eq(weights.keys()), "{}: names of the weights", path.display());
        for (key, StateTensor { shape, data }) in &weights {
            assert_eq!(&found[key].shape, shape, "{}: {key}", path.display());
            for (&found, &expected) in found[key].data.iter().zip(data) {
                // float32 bytes are only moved. float16 keeps 11 significant bits, and half of
                // 2⁻²⁴ where it is subnormal.
                let rounding = expected.abs() * 2f32.powi(-11) + 2f32.powi(-25);
                let bound = if half { rounding } else { 0.0 };
                assert!((found - expected).abs() <= bound, "{}: {key}", path.display());
            }
            comparisons += 1;
        }
        // Weights rounded to 11 bits move the logits by about as much.
        let tolerance = if half { 5e-3 } else { OUTPUT_TOLERANCE };
        comparisons += check_logits(path, &fixture, found, tolerance);
    }
    comparisons
}

fn check_logits(path: &Path, fixture: &Fixture, weights: StateDict, tolerance: f64) -> usize {
    let (config, style) = config(fixture.config(), &weights);
    let device = Device::default();
    let classes = num_classes(&weights);
    let model = load(path, &config, classes, weights.clone(), style, &device);
    let logits = values(model.forward(fixture.tensor::<4>("input", &device)));
    let expected = &fixture.state_tensor("logits").data;
    assert_close(&format!("{} logits", name(path)), &logits, expected, tolerance);

    // Strict both ways: a key too few and a key too many are told by name.
    let mut wrong = weights;
    let head = wrong.remove("head.bias").expect("a bias of the head");
    wrong.insert("head.extra".to_owned(), head);
    let mismatch = load_state_dict(model, wrong, style).expect_err("keys do not fit");
    assert_eq!(mismatch.missing, ["head.bias"]);
    assert_eq!(mismatch.unexpected, ["head.extra"]);
    3
}
