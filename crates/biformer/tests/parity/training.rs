//! Families `train_schedules`, `train_droppath`, `train_adamw`, `train_param_groups`, `train_ema`,
//! `train_mixup`, `train_losses`.

use std::path::Path;

use biformer::classification::{ImageClassifierConfig, cross_entropy, soft_target_cross_entropy};
use biformer::data::{Mix, mix_pictures, soft_targets};
use biformer::layers::drop_path_rates;
use biformer::train::{
    AdamW, AdamWOptions, CosineSchedule, IterSchedule, LrPolicy, ModelEma, NamedGradients,
};
use biformer::train::{ema_decay, is_decayed};
use biformer::weights::{KeyStyle, StateDict, keys_and_shapes};
use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;

use super::fixtures::*;
use super::models::config;

#[test]
fn schedules() {
    for_each_file("train_schedules", &["json"], |path| {
        let file = read_json(path);
        let mut comparisons = 0;
        for case in file["cosine"].as_array().expect("cosine") {
            let schedule: CosineSchedule = CosineSchedule {
                lr: float(&case["lr"]),
                min_lr: float(&case["min_lr"]),
                warmup_lr: float(&case["warmup_lr"]),
                warmup_epochs: float(&case["warmup_epochs"]),
                epochs: float(&case["epochs"]),
            };
            for (t, expected) in floats(&case["lr_at_t"]).into_iter().enumerate() {
                assert_lr(schedule.lr_at(t as f64), expected);
                comparisons += 1;
            }
            // The official loop steps the schedule at the end of an epoch, so that epochs 0
            // and 1 both run at time 0.
            let in_loop = floats(&case["lr_used_in_epoch_official_loop"]);
            for (epoch, expected) in in_loop.into_iter().enumerate() {
                assert_lr(schedule.lr_at(epoch.saturating_sub(1) as f64), expected);
                comparisons += 1;
            }
        }
        let poly = &file["poly"];
        let schedule = IterSchedule {
            policy: LrPolicy::Poly,
            lr: float(&poly["base_lr"]),
            min_lr: float(&poly["min_lr"]),
            power: float(&poly["power"]),
            max_iters: float(&poly["max_iters"]),
            warmup_iters: float(&poly["warmup_iters"]),
            warmup_ratio: float(&poly["warmup_ratio"]),
        };
        for (iter, expected) in floats(&poly["iters"]).into_iter().zip(floats(&poly["lr"])) {
            assert_lr(schedule.lr_at(iter), expected);
            comparisons += 1;
        }
        Ok(comparisons)
    });
}

#[test]
fn drop_path() {
    for_each_file("train_droppath", &["json"], |path| {
        let mut comparisons = 0;
        for case in read_json(path).as_array().expect("a list of cases") {
            let blocks = floats(&case["depth"]).into_iter().sum::<f64>() as usize;
            let found = drop_path_rates(float(&case["rate"]), blocks);
            let expected = floats(&case["rates"]);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.into_iter().zip(expected) {
                // torch computes them in float32: one unit in the last place is at most 2⁻²³.
                let bound = 2f64.powi(-23) * expected;
                assert!((found - expected).abs() <= bound, "{found} {expected}");
                comparisons += 1;
            }
        }
        Ok(comparisons)
    });
}

#[test]
fn adamw() {
    #[derive(Module, Debug)]
    struct OneTensor {
        weight: Param<Tensor<2>>,
    }
    for_each_file("train_adamw", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let meta = &fixture.meta;
        let options = AdamWOptions {
            betas: [float(&meta["betas"][0]), float(&meta["betas"][1])],
            eps: float(&meta["eps"]),
            weight_decay: float(&meta["weight_decay"]),
        };
        let device = Device::default().autodiff();
        let style = KeyStyle::BiFormer;
        let mut optimizer = AdamW::new(&options, style);
        let initial = fixture.tensor::<2>("w0", &device).require_grad();
        let mut module = OneTensor { weight: Param::from_tensor(initial) };
        let mut steps = 0;
        while fixture.has(&format!("g{steps}")) {
            let gradient = fixture.tensor::<2>(&format!("g{steps}"), &device);
            let loss = (module.weight.val() * gradient).sum();
            let gradients = NamedGradients::collect(&module, loss.backward(), style);
            module = optimizer.step(float(&meta["lr"]), module, gradients);
            steps += 1;
            let expected = &fixture.state_tensor(&format!("w{steps}")).data;
            // Six roundings of float32 in a step.
            assert_close("weights", &values(module.weight.val()), expected, 1e-6);
        }
        let moments = optimizer.state_dict();
        for (name, key) in [("m", "exp_avg.weight"), ("v", "exp_avg_sq.weight")] {
            let expected = &fixture.state_tensor(&format!("{name}{steps}")).data;
            assert_close(key, &moments[key].data, expected, 1e-6);
        }
        Ok(steps + 2)
    });
}

#[test]
fn param_groups() {
    for_each_file("train_param_groups", &["json"], |path| {
        let file = read_json(path);
        let names = |group: &str| -> Vec<String> {
            let names = file[group].as_array().expect("a list of names").iter();
            names.map(|name| name.as_str().expect("a name").to_owned()).collect()
        };
        let (decay, no_decay) = (names("decay"), names("no_decay"));
        // The names tell the variant, as the keys of a state dict do.
        let empty = biformer::weights::StateTensor { shape: vec![], data: vec![] };
        let all = decay.iter().chain(&no_decay).map(|name| (name.clone(), empty.clone()));
        let (config, style) = config(&file["config"], &all.collect::<StateDict>());
        let num_classes = float(&file["config"]["num_classes"]) as usize;
        let classifier = ImageClassifierConfig::new(config).with_num_classes(num_classes);
        let keys = keys_and_shapes(&classifier.init(&Device::default()), style).into_iter();
        let keys: Vec<_> = keys.filter(|(key, _)| !key.contains("running_")).collect();
        assert_eq!(keys.len(), decay.len() + no_decay.len(), "number of parameters");
        for (key, shape) in &keys {
            let group = if is_decayed(key, shape) { &decay } else { &no_decay };
            assert!(group.contains(key), "`{key}` is in the wrong group");
        }
        Ok(keys.len())
    });
}

#[test]
fn ema() {
    #[derive(Module, Debug)]
    struct OneTensor {
        weight: Param<Tensor<1>>,
    }
    for_each_file("train_ema", &["json"], |path| {
        let file = read_json(path);
        let device = Device::default();
        let module = |value: f64| OneTensor {
            weight: Param::from_tensor(Tensor::from_floats([value as f32], &device)),
        };
        let mut ema = ModelEma::new(module(float(&file["ema0"])), KeyStyle::BiFormer);
        let (steps, expected) = (floats(&file["values"]), floats(&file["ema"]));
        for (step, (value, expected)) in steps.iter().zip(&expected).enumerate() {
            ema.update(&module(*value), ema_decay(float(&file["decay"]), false, step));
            // Two roundings of float32 a step.
            assert_close("average", &values(ema.module.weight.val()), &[*expected as f32], 4e-7);
        }
        Ok(expected.len())
    });
}

#[test]
fn mixup() {
    for_each_file("train_mixup", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let cases = fixture.meta["cases"].as_array().expect("a list of cases").clone();
        for (number, case) in cases.iter().enumerate() {
            let tensor = |name: &str| fixture.state_tensor(&format!("case{number}.{name}"));
            let x = tensor("x");
            let &[count, _, height, width] = &x.shape[..] else { panic!("{:?}", x.shape) };
            let mix = match case["bbox_yl_yh_xl_xh"].as_array() {
                Some(sides) => {
                    let sides: Vec<_> = sides.iter().map(|side| float(side) as usize).collect();
                    Mix::Box(sides[0]..sides[1], sides[2]..sides[3])
                }
                None => Mix::Blend(float(&case["lam_drawn"])),
            };
            let size = [height, width];
            assert!((mix.lambda(size) - float(&case["lam_final"])).abs() < 1e-12);
            let mixes = vec![mix; count];
            let mut pixels = x.data.clone();
            mix_pictures(&mut pixels, &mixes, size);
            // λ is rounded to float32 here, a product and a sum follow.
            assert_close("pixels", &pixels, &tensor("x_out").data, 3e-7);
            let labels = fixture.labels(&format!("case{number}.target"));
            let classes = float(&case["num_classes"]) as usize;
            let smoothing = float(&case["label_smoothing"]);
            let targets = soft_targets(&labels, classes, smoothing, &mixes, size);
            assert_close("targets", &targets, &tensor("target_out").data, 3e-7);
        }
        Ok(3 * cases.len())
    });
}

#[test]
fn losses() {
    for_each_file("train_losses", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let device = Device::default().autodiff();
        let labels = fixture.labels("target");
        let logits = || fixture.tensor::<2>("logits", &device).require_grad();
        let [_, classes] = logits().dims();
        let smoothed = |smoothing| {
            let targets = soft_targets(&labels, classes, smoothing, &[], [1, 1]);
            Tensor::<2>::from_data(TensorData::new(targets, [labels.len(), classes]), &device)
        };
        let indices: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
        let indices = || Tensor::<1, Int>::from_data(indices.as_slice(), &device);
        let hard = |smoothing| {
            let logits = logits();
            (logits.clone(), cross_entropy(logits, indices(), smoothing))
        };
        let soft = |targets| {
            let logits = logits();
            (logits.clone(), soft_target_cross_entropy(logits, targets))
        };
        let cases = [
            ("ce", hard(0.0)),
            ("ce", soft(smoothed(0.0))),
            ("label_smoothing_0.1", hard(0.1)),
            ("label_smoothing_0.1", soft(smoothed(0.1))),
            ("soft_target_ce", soft(fixture.tensor::<2>("soft_target", &device))),
        ];
        let comparisons = 2 * cases.len();
        for (name, (logits, loss)) in cases {
            let expected = |what: &str| &fixture.state_tensor(&format!("{name}.{what}")).data;
            assert_close(name, &values(loss.clone()), expected("loss"), 1e-6);
            let gradient = logits.grad(&loss.backward()).expect("a gradient");
            assert_close(name, &values(gradient), expected("grad"), 1e-6);
        }
        Ok(comparisons)
    });
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a readable file");
    serde_json::from_str(&text).expect("JSON")
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, found {value}"))
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(float).collect()
}

/// Schedules are computed in float64 on both sides: 1e-12 of the fixtures' README.
fn assert_lr(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-3), "{found} {expected}");
}
