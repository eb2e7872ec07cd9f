//! Mixed precision: the step of a model whose products are rounded, on whatever device the features choose,
//! against that of float32 on the CPU.

use biformer::Precision;
use biformer::attention::{AttentionConfig, BraConfig, FullAttentionConfig};
use biformer::classification::{
    LoadOptions, PRETRAINED, load_classifier, soft_target_cross_entropy,
};
use biformer::models::BlockConfig;
use biformer::train::NamedGradients;
use biformer_ops::autocast;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

const BATCH: usize = 4;
const SIDE: usize = 64;

/// Loss, and gradients by name.
type Step = (f32, Vec<(String, Vec<f32>)>);

/// A step on pictures that [`numbers`] draws, from weights that ship.
fn step(device: &Device, precision: Precision) -> Step {
    let device = device.clone().autodiff();
    let (path, options) = (PRETRAINED[0].name.as_ref(), LoadOptions::default());
    let model = load_classifier(path, &options, &device).expect("weights that ship").model;
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
    let mut gradients = NamedGradients::collect(&model, loss.backward(), style);
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
    let exact = step(&Device::flex(), Precision::F32);
    for precision in [Precision::Bf16, Precision::F16] {
        match precision.check(&Device::default()) {
            Ok(()) => assert_near(precision, &step(&Device::default(), precision), &exact),
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

/// A map is rounded between two products off the CPU, and float32 again where a branch ends, whether that drops pictures
/// or not. Here are some ten products one behind the other: off by √10 · 1.6e-3 = 0.5 %, and ten times that for
/// gradients that are sums of which much cancels.
#[test]
fn a_block_is_near_that_of_float32() {
    let bra = AttentionConfig::Bra(BraConfig::new(32, 2, 3, 4));
    let full = AttentionConfig::Full(FullAttentionConfig::new(32).with_num_heads(2));
    for precision in [Precision::Bf16, Precision::F16] {
        if let Err(reason) = precision.check(&Device::default()) {
            eprintln!("skipped: {reason}");
            continue;
        }
        for (attention, drop_path) in [(&bra, 0.0), (&bra, 1e-9), (&full, 0.0)] {
            let block = BlockConfig::new(32, attention.clone(), true, 2, drop_path);
            let block = block.init(&Device::flex().autodiff());
            let pass = |device: &Device, precision| {
                let device = device.clone().autodiff();
                let block = block.clone().fork(&device);
                let x = TensorData::new(numbers(2 * 7 * 8 * 32), [2, 7, 8, 32]);
                let x = Tensor::<4>::from_data(x, &device).require_grad();
                let output = autocast(precision, || block.forward(x.clone()));
                let gradients = output.clone().powi_scalar(2).sum().backward();
                let fc1 = block.mlp.fc1.weight.val().grad(&gradients).expect("a gradient");
                let x = x.grad(&gradients).expect("a gradient");
                [output.inner().flatten::<1>(0, 3), x.flatten(0, 3), fc1.flatten(0, 1)]
                    .map(|x| x.into_data_as::<f32>().try_into_vec().expect("float32"))
            };
            let exact: [Vec<f32>; 3] = pass(&Device::flex(), Precision::F32);
            let found = pass(&Device::default(), precision);
            for (name, (found, exact)) in
                ["output", "gradient of x", "gradient of fc1"].iter().zip(found.iter().zip(&exact))
            {
                let error = norm(found.iter().zip(exact).map(|(found, exact)| found - exact));
                let error = error / norm(exact.iter().copied());
                assert!(error > 0.0, "{precision:?}, {name}: nothing was rounded");
                assert!(error < 0.05, "{precision:?}, {name}: off by {error}");
            }
        }
    }
}
