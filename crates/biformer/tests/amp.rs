//! Mixed precision: the step of a model whose products are rounded, against that of float32, on whatever
//! device the features choose.

use biformer::Precision;
use biformer::classification::{
    ImageClassifier, LoadOptions, PRETRAINED, load_classifier, soft_target_cross_entropy,
};
use biformer::train::NamedGradients;
use biformer_ops::autocast;
use burn::tensor::{Device, Tensor, TensorData};

const BATCH: usize = 4;
const SIDE: usize = 64;

/// Loss, and gradients by name.
type Step = (f32, Vec<(String, Vec<f32>)>);

/// A step on pictures that [`numbers`] draws.
fn step(model: &ImageClassifier, precision: Precision) -> Step {
    let device = Device::default().autodiff();
    let classes = model.num_classes();
    let images = TensorData::new(numbers(BATCH * 3 * SIDE * SIDE), [BATCH, 3, SIDE, SIDE]);
    let targets = (0..BATCH * classes).map(|i| f32::from(i % classes == i / classes));
    let targets = TensorData::new(targets.collect::<Vec<_>>(), [BATCH, classes]);
    let (images, targets) =
        (Tensor::from_data(images, &device), Tensor::from_data(targets, &device));
    let logits = autocast(precision, || model.forward(images));
    let loss = soft_target_cross_entropy(logits, targets);
    let value = loss.clone().into_scalar();
    let style = model.backbone.config.key_style();
    let mut gradients = NamedGradients::collect(model, loss.backward(), style);
    let values = |x: Tensor<1>| x.into_data_as::<f32>().try_into_vec().expect("float32");
    let gradients = gradients.iter_mut().map(|(key, x)| (key.clone(), values(x.clone())));
    (value, gradients.collect())
}

/// Soft waves of several lengths, unlike noise a picture of something.
fn numbers(count: usize) -> Vec<f32> {
    let wave = |i: usize, length: f32| (i as f32 * std::f32::consts::TAU / length).sin();
    (0..count).map(|i| wave(i, 17.3) + wave(i, 64.7 * 9.0) + wave(i / SIDE, 13.9)).collect()
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// A step has some 35 products one behind the other forward and as many backward. Each rounds both sides, by
/// 2⁻⁹ / √3 at random, and hands on what came before: √70 · √2 · 1.1e-3 = 1.3 % of the gradients, and more
/// where rounding routes a query to another region, or a sum over pixels nearly cancels. Measured on an
/// EPYC: 4.2 % of all gradients, 20 % of those of one bias; the bounds are twice that.
#[test]
fn gradients_of_a_step_are_near_those_of_float32() {
    let (path, options) = (PRETRAINED[0].name.as_ref(), LoadOptions::default());
    let device = Device::default().autodiff();
    let model = load_classifier(path, &options, &device).expect("weights that ship").model;
    let exact = step(&model, Precision::F32);
    for precision in [Precision::Bf16, Precision::F16] {
        match precision.check(&Device::default()) {
            Ok(()) => assert_near(precision, &step(&model, precision), &exact),
            Err(reason) => eprintln!("skipped: {reason}"),
        }
    }
}

fn assert_near(precision: Precision, found: &Step, exact: &Step) {
    let ((loss, found), (exact_loss, exact)) = (found, exact);
    assert!(loss != exact_loss, "{precision:?}: nothing was rounded");
    let ratio = loss / exact_loss;
    assert!((ratio - 1.0).abs() < 0.03, "{precision:?}: loss {loss}, in float32 {exact_loss}");
    let all = norm(exact.iter().flat_map(|(_, values)| values.iter().copied()));
    let mut squares = 0.0;
    for ((key, exact), (other, found)) in exact.iter().zip(found) {
        assert_eq!(key, other);
        let error = norm(exact.iter().zip(found).map(|(exact, found)| found - exact));
        // A bias in front of a batch norm has no gradient but what float32 leaves of it.
        let bound = 0.4 * norm(exact.iter().copied()) + 1e-3 * all;
        assert!(error <= bound, "{precision:?}, {key}: off by {error}, more than {bound}");
        squares += error * error;
    }
    let error = squares.sqrt() / all;
    eprintln!("{precision:?}: gradients are off by {error}");
    assert!(error < 0.085, "{precision:?}, all gradients: off by {error}");
}
