//! Families `mini_biformer`, `mini_stl*`, `mini_eps_*`, `mini_seg`, `mini_det`, `mini_grad_*`,
//! `full_biformer_*`: whole models.

use std::path::Path;

use biformer::Precision;
use biformer::attention::{AttentionTrace, Lepe, RegionRule};
use biformer::classification::{ImageClassifier, ImageClassifierConfig};
use biformer::layers::PatchEmbedKind;
use biformer::models::BiFormerConfig;
use biformer::weights::{
    KeyStyle, StateDict, StateTensor, keys_and_shapes, load_state_dict, state_dict,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde_json::Value;

use super::fixtures::*;

/// Of the fixtures' README: gradients of whole models, with running statistics and with
/// statistics of the batch.
const GRADIENT_TOLERANCE: f64 = 1e-4;
const GRADIENT_TOLERANCE_BATCH_STATISTICS: f64 = 1e-3;

#[test]
fn classifiers() {
    for prefix in ["mini_biformer", "mini_stl", "mini_eps_"] {
        for_each_file(prefix, &["safetensors"], classifier);
    }
}

#[test]
fn dense_backbones() {
    for prefix in ["mini_seg", "mini_det"] {
        for_each_file(prefix, &["safetensors"], dense_backbone);
    }
}

#[test]
fn gradients() {
    for_each_file("mini_grad_", &["safetensors"], model_gradients);
}

#[test]
fn full_size() {
    for_each_file("full_biformer_", &["safetensors"], full_model);
}

fn classifier(path: &Path) -> Result<usize, String> {
    let fixture = Fixture::read(path);
    let what = |part: &str| format!("{} {part}", name(path));
    let weights = fixture.group("w.");
    let (config, style) = config(fixture.config(), &weights);
    let device = Device::default();
    let model = load(path, &config, num_classes(&weights), weights, style, &device);

    let input = fixture.tensor::<4>("input", &device);
    let (maps, traces) = model.backbone.forward_traced(input.clone());
    let mut comparisons = 0;
    for (i, map) in maps.into_iter().enumerate() {
        let stage = format!("stage{}", i + 1);
        let expected = &fixture.state_tensor(&stage).data;
        let found = values(map.permute([0, 3, 1, 2]));
        assert_close(&what(&stage), &found, expected, OUTPUT_TOLERANCE);
        comparisons += 1;
    }
    // Activations of tiny variance: routing margins are below the noise there.
    if !name(path).starts_with("mini_eps_") {
        comparisons += check_routing(path, &fixture, style, &traces);
    }
    let expected = &fixture.state_tensor("logits").data;
    assert_close(&what("logits"), &values(model.forward(input)), expected, OUTPUT_TOLERANCE);
    if let Some(params) = fixture.meta["params"].as_u64() {
        assert_eq!(count_params(&model, style) as u64, params, "{}", what("params"));
        comparisons += 1;
    }
    Ok(comparisons + 1)
}

fn dense_backbone(path: &Path) -> Result<usize, String> {
    let fixture = Fixture::read(path);
    let what = |part: &str| format!("{} {part}", name(path));
    let weights = fixture.group("w.");
    let (config, style) = config(fixture.config(), &weights);
    let device = Device::default();
    let model = load_state_dict(config.with_extra_norms(true).init(&device), weights, style)
        .unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()));

    let input = fixture.tensor::<4>("input", &device);
    let (stages, traces) = model.forward_traced(input.clone());
    let mut comparisons = check_stage_stats(path, &fixture, stages);
    let prepared = model.clone().for_inference();
    for (kind, model) in [("", model), (", for inference", prepared)] {
        for (i, map) in model.forward_features(input.clone()).into_iter().enumerate() {
            let out = format!("out{}", i + 1);
            let expected = fixture.state_tensor(&out);
            let out = what(&format!("{out}{kind}"));
            assert_eq!(map.dims().as_slice(), expected.shape, "{out}");
            assert_close(&out, &values(map), &expected.data, OUTPUT_TOLERANCE);
            comparisons += 1;
        }
    }
    Ok(comparisons + check_routing(path, &fixture, style, &traces))
}

fn model_gradients(path: &Path) -> Result<usize, String> {
    let fixture = Fixture::read(path);
    let what = |part: &str| format!("{} {part}", name(path));
    let weights = fixture.group("w.");
    let (config, style) = config(fixture.config(), &weights);
    let batch_statistics = fixture.meta["bn_mode"] == "train";
    let tolerance = match batch_statistics {
        true => GRADIENT_TOLERANCE_BATCH_STATISTICS,
        false => GRADIENT_TOLERANCE,
    };
    let device = Device::default().autodiff();
    let mut model = load(path, &config, num_classes(&weights), weights, style, &device);
    if !batch_statistics {
        model = model.freeze().set_require_grad(true); // flags off, gradients on
    }
    let input = fixture.tensor::<4>("input", &device);
    let (_, traces) = model.clone().valid().backbone.forward_traced(input.clone().inner());
    let logits = model.forward(input);
    let expected = &fixture.state_tensor("logits").data;
    assert_close(&what("logits"), &values(logits.clone()), expected, OUTPUT_TOLERANCE);
    let terms = logits * fixture.tensor::<2>("loss.coef", &device);
    // The terms cancel in the sum, so that their magnitude is the scale of its error.
    let scale: f64 = values(terms.clone()).iter().map(|term| f64::from(term.abs())).sum();
    let loss = terms.sum();
    let (found, expected) = (values(loss.clone())[0], fixture.state_tensor("loss").data[0]);
    let error = f64::from(found - expected).abs() / scale;
    assert!(error <= OUTPUT_TOLERANCE, "{}: found {found}, expected {expected}", what("loss"));
    let mut comparisons = 2;
    if !batch_statistics {
        comparisons += check_routing(path, &fixture, style, &traces);
    }

    let after = state_dict(&model.valid(), style);
    for (key, expected) in &fixture.group("after.") {
        assert_close(&what(key), &after[key].data, &expected.data, OUTPUT_TOLERANCE);
        comparisons += 1;
    }
    let near_zero = fixture.meta["near_zero_grads"].as_array().cloned().unwrap_or_default();
    let found = gradients_by_key(model, loss.backward(), style);
    for (key, expected) in &fixture.group("g.") {
        // In front of batch statistics a bias has no gradient but noise.
        if near_zero.contains(&Value::from(key.as_str())) {
            continue;
        }
        let found = found.get(key).unwrap_or_else(|| panic!("{}: no gradient", what(key)));
        assert_eq!(found.shape, expected.shape, "{}", what(key));
        assert_close_l2(&what(key), &found.data, &expected.data, tolerance);
        comparisons += 1;
    }
    Ok(comparisons)
}

fn full_model(path: &Path) -> Result<usize, String> {
    let fixture = Fixture::read(path);
    let what = |part: &str| format!("{} {part}", name(path));
    let model_name = fixture.config()["factory"].as_str().expect("a factory");
    let config = BiFormerConfig::from_name(model_name).map_err(|error| error.to_string())?;
    let style = config.key_style();
    let device = Device::default();
    let classifier = ImageClassifierConfig::new(config).init(&device);

    let seed = fixture.meta["seed"].as_u64().expect("a seed");
    let weights = keys_and_shapes(&classifier, style).into_iter().map(|(key, shape)| {
        let tensor = portable_weight(&key, &shape, seed);
        (key, tensor)
    });
    let model = load_state_dict(classifier, weights.collect(), style)
        .unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()));
    let input = portable_picture([1, 3, 224, 224], seed);
    for (part, found) in
        [("input_first64", &input[..64]), ("input_last64", &input[input.len() - 64..])]
    {
        assert_eq!(found, fixture.state_tensor(part).data, "{}", what(part));
    }
    let params = count_params(&model, style) as u64;
    assert_eq!(Some(params), fixture.meta["params"].as_u64(), "{}", what("params"));

    let input = Tensor::<4>::from_data(TensorData::new(input, [1, 3, 224, 224]), &device);
    let (stages, traces) = model.backbone.forward_traced(input.clone());
    let logits = values(model.classify(stages[3].clone()));
    let expected = fixture.state_tensor("logits").data.clone();
    assert_close(&what("logits"), &logits, &expected, OUTPUT_TOLERANCE);
    let stages = check_stage_stats(path, &fixture, stages);
    let logits = values(model.forward(input.clone()));
    assert_close(&what("logits, fused"), &logits, &expected, OUTPUT_TOLERANCE);
    let logits = values(model.clone().for_inference().forward(input.clone()));
    assert_close(&what("logits, for inference"), &logits, &expected, OUTPUT_TOLERANCE);
    for precision in [Precision::Bf16, Precision::F16] {
        if precision.check(&input.device()).is_ok() {
            let model = model.clone().for_inference_in(precision);
            let found = values(model.forward(input.clone()));
            assert_same_class(&what(&format!("logits, {precision:?}")), &found, &expected);
        }
    }
    Ok(6 + stages + check_routing(path, &fixture, style, &traces))
}

/// The same best class, and logits that are off by less than a tenth of what they vary: bfloat16, the
/// coarser one, rounds by up to 1/256, at random, and a network of some 60 layers adds that up.
fn assert_same_class(what: &str, found: &[f32], expected: &[f32]) {
    let best = |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let square = |x: f32| x * x;
    let variance: f32 = expected.iter().map(|x| square(x - mean)).sum();
    let error: f32 = found.iter().zip(expected).map(|(x, y)| square(x - y)).sum();
    eprintln!("{what}: {}", (error / variance).sqrt());
    assert!(error < square(0.1) * variance, "{what}: off by {}", (error / variance).sqrt());
    assert_eq!(best(found), best(expected), "{what}: another class");
}

/// The configuration that a fixture was recorded with, from its metadata and its keys.
pub fn config(meta: &Value, weights: &StateDict) -> (BiFormerConfig, KeyStyle) {
    let list = |key: &str| -> Vec<i64> {
        let list = meta[key].as_array().unwrap_or_else(|| panic!("`{key}` in the metadata"));
        list.iter().map(|value| value.as_i64().expect("an integer")).collect()
    };
    let four = |key: &str| -> [usize; 4] { std::array::from_fn(|i| list(key)[i] as usize) };
    let same = |values: &[i64]| {
        assert!(values.iter().all(|value| *value == values[0]), "one value for all stages");
        values[0] as usize
    };
    let stage4 = list("topks")[3];
    let config = BiFormerConfig::new(four("depth"), four("embed_dim"))
        .with_mlp_ratio(same(&list("mlp_ratios")))
        .with_head_dim(meta["head_dim"].as_u64().expect("head_dim") as usize)
        .with_topks(std::array::from_fn(|i| four("topks")[i]));
    if weights.contains_key("downsample_layers.0.3.weight") {
        let n_win = meta["n_win"].as_u64().expect("n_win") as usize;
        assert_eq!(stage4, -2, "the attention of stage 4");
        (config.with_n_win(n_win), KeyStyle::BiFormer)
    } else {
        let config = config
            .with_n_win(same(&list("n_wins")))
            .with_patch_embed(PatchEmbedKind::NonOverlapped)
            .with_pos_embed(false);
        if stage4 == -2 {
            (config, KeyStyle::Stl)
        } else {
            let config = config.with_region_rule(RegionRule::Floor).with_lepe(Lepe::Value);
            (config, KeyStyle::StlNchw)
        }
    }
}

pub fn num_classes(weights: &StateDict) -> usize {
    weights["head.weight"].shape[0]
}

pub fn load(
    path: &Path,
    config: &BiFormerConfig,
    num_classes: usize,
    weights: StateDict,
    style: KeyStyle,
    device: &Device,
) -> ImageClassifier {
    assert_eq!(config.key_style(), style, "{}: names of keys", path.display());
    let config = ImageClassifierConfig::new(config.clone()).with_num_classes(num_classes);
    load_state_dict(config.init(device), weights, style)
        .unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()))
}

/// The gradient of every parameter that has one, under its official key.
pub fn gradients_by_key<M: Module>(module: M, gradients: Gradients, style: KeyStyle) -> StateDict {
    struct ToGradients(Gradients);
    impl ModuleMapper for ToGradients {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let gradient = param.val().grad_remove(&mut self.0);
            let value = gradient.unwrap_or_else(|| param.val().inner().mul_scalar(f32::NAN));
            Param::initialized(param.id, value)
        }
    }
    let mut gradients = state_dict(&module.map(&mut ToGradients(gradients)), style);
    gradients.retain(|_, gradient| !gradient.data[0].is_nan());
    gradients
}

fn count_params<M: Module>(model: &M, style: KeyStyle) -> usize {
    let keys = keys_and_shapes(model, style).into_iter();
    let params = keys.filter(|(key, _)| !key.contains("running_"));
    params.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

fn check_routing(
    path: &Path,
    fixture: &Fixture,
    style: KeyStyle,
    traces: &[Vec<AttentionTrace>; 4],
) -> usize {
    let mut comparisons = 0;
    for (stage, blocks) in traces.iter().enumerate() {
        for (block, trace) in blocks.iter().enumerate() {
            let Some(routing) = &trace.routing else { continue };
            let key = match style {
                KeyStyle::BiFormer => format!("ridx.stages.{stage}.{block}.attn"),
                _ => format!("ridx.stages.{stage}.blocks.{block}.attn"),
            };
            let what = format!("{} {key}", name(path));
            assert_same_routing(&what, routing, fixture.routing(&key));
            comparisons += 1;
        }
    }
    comparisons
}

/// Mean, standard deviation, largest magnitude and first element of each stage, each relative
/// to the largest magnitude of its stage.
fn check_stage_stats(path: &Path, fixture: &Fixture, stages: [Tensor<4>; 4]) -> usize {
    let expected = &fixture.state_tensor("stage_stats").data;
    for (i, (stage, expected)) in stages.into_iter().zip(expected.chunks(4)).enumerate() {
        let x: Vec<f64> = values(stage.permute([0, 3, 1, 2])).into_iter().map(f64::from).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0);
        let largest = x.iter().fold(0.0f64, |max, v| max.max(v.abs()));
        for (statistic, found, expected) in [
            ("mean", mean, expected[0]),
            ("standard deviation", variance.sqrt(), expected[1]),
            ("largest magnitude", largest, expected[2]),
            ("first element", x[0], expected[3]),
        ] {
            let error = (found - f64::from(expected)).abs() / largest;
            let what = format!("{} {statistic} of stage {}", name(path), i + 1);
            assert!(error <= OUTPUT_TOLERANCE, "{what}: found {found}, expected {expected}");
        }
    }
    16
}

/// The weight of `key` as the fixtures' README defines it.
fn portable_weight(key: &str, shape: &[usize], seed: u64) -> StateTensor {
    let leaf = key.rsplit('.').next().unwrap_or(key);
    let (amplitude, middle) = if key.contains("running_mean") {
        (0.3, 0.0)
    } else if key.contains("running_var") {
        (0.75, 1.75)
    } else if key.contains("gamma1") || key.contains("gamma2") {
        (0.25, 0.75)
    } else if leaf == "bias" {
        (0.2, 0.0)
    } else if shape.len() == 1 {
        (0.4, 1.0)
    } else {
        let gains: [(bool, f64); 6] = [
            (key.contains(".qkv") || key.contains("router"), 1.6),
            ([".wo.", ".proj.", "output_linear"].iter().any(|part| key.contains(part)), 0.9),
            (key.contains("lepe"), 0.7),
            (key.contains("pos_embed"), 0.5),
            (key.contains(".mlp.3.") || key.contains(".mlp.2."), 0.7),
            (key.starts_with("head."), 2.0),
        ];
        let gain = gains.iter().find(|(matches, _)| *matches).map_or(1.0, |(_, gain)| *gain);
        let fan: usize = shape[1..].iter().product();
        (gain * (3.0 / fan as f64).sqrt(), 0.0)
    };
    let count = shape.iter().product();
    let data = hashed(key, seed, count).map(|u| (middle + amplitude * u) as f32).collect();
    StateTensor { shape: shape.to_vec(), data }
}

/// The input picture as the fixtures' README defines it, `[batch, 3, height, width]`.
fn portable_picture([batch, channels, height, width]: [usize; 4], seed: u64) -> Vec<f32> {
    let layer = |s: usize| -> Vec<f32> {
        let (rows, cols) = (height.div_ceil(s), width.div_ceil(s));
        let count = batch * channels * rows * cols;
        let coarse: Vec<f32> =
            hashed(&format!("input.c{s}"), seed, count).map(|u| u as f32).collect();
        let mut fine = Vec::with_capacity(batch * channels * height * width);
        for plane in coarse.chunks(rows * cols) {
            for y in 0..height {
                fine.extend((0..width).map(|x| plane[y / s * cols + x / s]));
            }
        }
        fine
    };
    let (l32, l8, l1) = (layer(32), layer(8), layer(1));
    (0..l1.len()).map(|i| 1.25 * l32[i] + 0.75 * l8[i] + 0.5 * l1[i]).collect()
}

/// `hrand` of the fixtures' README: numbers in [−1, 1) that depend on name and seed.
fn hashed(name: &str, seed: u64, count: usize) -> impl Iterator<Item = f64> {
    let fnv1a64 = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let base = fnv1a64.wrapping_add(seed.wrapping_mul(0xD134_2543_DE82_EF95));
    (1..=count as u64).map(move |i| {
        let mut z = base.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / 8_388_608.0 - 1.0
    })
}
