//! What stands between a backward pass and the weights: averaging and clipping of gradients, layer
//! decay, the average of the weights, and what a recipe makes of the batch.

use biformer::train::{
    AdamW, AdamWOptions, LayerDecay, ModelEma, NamedGradients, Recipe, ema_decay,
};
use biformer::weights::KeyStyle;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

const STYLE: KeyStyle = KeyStyle::BiFormer;

/// Two parameters, named as the first and the last layer of a model.
#[derive(Module, Debug)]
struct TwoLayers {
    downsample_layers: Vec<Param<Tensor<1>>>,
    head: Param<Tensor<1>>,
}

fn layers(first: [f32; 2], last: [f32; 1]) -> TwoLayers {
    let device = Device::default().autodiff();
    TwoLayers {
        downsample_layers: vec![Param::from_tensor(
            Tensor::from_floats(first, &device).require_grad(),
        )],
        head: Param::from_tensor(Tensor::from_floats(last, &device).require_grad()),
    }
}

/// The gradients of Σ coefficient · parameter: the coefficients.
fn gradients(module: &TwoLayers, first: [f32; 2], last: [f32; 1]) -> NamedGradients {
    let device = Device::default().autodiff();
    let product = |param: &Param<Tensor<1>>, coefficients: &[f32]| {
        (param.val() * Tensor::from_floats(coefficients, &device)).sum()
    };
    let loss = product(&module.downsample_layers[0], &first) + product(&module.head, &last);
    NamedGradients::collect(module, loss.backward(), STYLE)
}

fn values(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32")
}

fn assert_values(gradients: &mut NamedGradients, expected: [&[f32]; 2]) {
    let found: Vec<_> = gradients.iter_mut().map(|(_, tensor)| values(tensor.clone())).collect();
    assert_eq!(found.len(), 2);
    for (found, expected) in found.iter().flatten().zip(expected.concat()) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{found} {expected}");
    }
}

#[test]
fn gradients_are_averaged_by_pictures() {
    let module = layers([0.0, 0.0], [0.0]);
    let mut mean = NamedGradients::default();
    // 3 pictures, then 1 more: shares 1 and 1/4.
    mean.average_in(gradients(&module, [4.0, 8.0], [0.0]), 1.0);
    mean.average_in(gradients(&module, [0.0, 4.0], [2.0]), 0.25);
    assert_values(&mut mean, [&[3.0, 7.0], &[0.5]]);
}

#[test]
fn the_norm_is_over_all_gradients() {
    let module = layers([0.0, 0.0], [0.0]);
    let mut long = gradients(&module, [2.0, 3.0], [6.0]);
    assert_eq!(long.norm(), 7.0);
    assert_eq!(long.clip_norm(3.5), 7.0);
    assert_values(&mut long, [&[1.0, 1.5], &[3.0]]);
    let mut short = gradients(&module, [2.0, 3.0], [6.0]);
    assert_eq!(short.clip_norm(8.0), 7.0);
    assert_values(&mut short, [&[2.0, 3.0], &[6.0]]);
    assert_eq!(NamedGradients::default().norm(), 0.0);
}

#[test]
fn early_layers_learn_at_a_lower_rate() {
    let module = layers([1.0, 1.0], [1.0]);
    let found = gradients(&module, [1.0, 1.0], [1.0]);
    let decay = LayerDecay { decay: 0.5, depths: [1, 0, 1, 0] }; // the stem is three layers before the head
    let options = AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() };
    let mut optimizer = AdamW::new(&options, STYLE).with_layer_decay(Some(decay));
    let module = optimizer.step(0.08, module, found);
    // The first step of AdamW has the length of the rate.
    for (param, expected) in [(&module.downsample_layers[0], 0.99), (&module.head, 0.92)] {
        let found = values(param.val())[0];
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn the_average_follows_at_its_decay() {
    let mut ema = ModelEma::new(layers([0.0, 2.0], [0.0]).valid(), STYLE);
    let module = layers([4.0, 2.0], [8.0]).valid();
    ema.update(&module, 0.75);
    assert_eq!(values(ema.module.downsample_layers[0].val()), [1.0, 2.0]);
    assert_eq!(values(ema.module.head.val()), [2.0]);
    assert_eq!(values(module.head.val()), [8.0], "the model itself is not touched");
}

#[test]
fn the_decay_rises_to_its_value() {
    assert_eq!(ema_decay(0.99, true, 0), 0.0);
    assert!((ema_decay(0.99, true, 7) - 0.75).abs() < 1e-12); // 1 − 8^(−2/3)
    assert_eq!(ema_decay(0.99, true, 1000), 0.99);
    assert_eq!(ema_decay(0.99, false, 0), 0.99);
}

#[test]
fn the_rate_follows_the_pictures_in_a_step() {
    let recipe = Recipe { lr: 1e-3, lr_base_size: 1024, min_lr: 1e-5, ..Recipe::default() };
    let scaled = recipe.with_lr_for(256);
    assert_eq!((scaled.lr, scaled.min_lr), (2.5e-4, 1e-5));
    let tiny = recipe.with_lr_for(1);
    assert_eq!((tiny.lr, tiny.min_lr), (1e-3 / 1024.0, 1e-3 / 1024.0));
    tiny.check().expect("rates before and after are not above the rate between");
    let plain = Recipe { lr_base_size: 0, ..recipe };
    assert_eq!(plain.with_lr_for(1).lr, 1e-3);
}

#[test]
fn mixing_ends_at_its_epoch() {
    let recipe = Recipe { mixup: 0.8, mixup_off_epoch: 3, ..Recipe::default() };
    assert!(recipe.mixup_in(2).is_some() && recipe.mixup_in(3).is_none());
    assert!(Recipe { mixup_off_epoch: 0, ..recipe }.mixup_in(1000).is_some());
    assert!(Recipe::default().mixup_in(0).is_none());
}
