//! Families `bra_legacy_*`, `bra_nchw_*`, `attn_*`: one module each.

use std::path::Path;

use biformer::attention::{
    Attention, AttentionConfig, AttentionTrace, BraConfig, FullAttentionConfig, Lepe, RegionRule,
    Routing,
};
use biformer::visualize::AttentionMaps;
use biformer::weights::{KeyStyle, load_state_dict};
use biformer_ops::{RegionGrid, RoutedAttentionOptions, RoutingOptions};
use biformer_ops::{depthwise_conv, route, routed_attention, routed_attention_traced};
use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::fixtures::*;
use super::models::gradients_by_key;

/// Gradients of one module in float32; the fixtures' README bounds their noise.
const GRADIENT_TOLERANCE: f64 = 1e-4;

#[test]
fn bra_legacy() {
    for_each_file("bra_legacy_", &["safetensors"], |path| bra(path, RegionRule::PadFirst));
}

#[test]
fn bra_nchw() {
    for_each_file("bra_nchw_", &["safetensors"], |path| bra(path, RegionRule::Floor));
}

#[test]
fn full() {
    for_each_file("attn_", &["safetensors"], |path| {
        let fixture = Fixture::read(path);
        let config = fixture.config();
        let (lepe, style) = match config["cls"].as_str().expect("cls") {
            "Attention" => (Lepe::None, KeyStyle::BiFormer),
            "AttentionLePE" => (Lepe::Input, KeyStyle::BiFormer),
            "nchwAttentionLePE" => (Lepe::Value, KeyStyle::StlNchw),
            other => return Err(format!("no published variant has {other}")),
        };
        let full = FullAttentionConfig::new(integer(&config["dim"]))
            .with_num_heads(integer(&config["num_heads"]))
            .with_lepe(lepe);
        Ok(check_module(path, &fixture, AttentionConfig::Full(full), style))
    });
}

fn bra(path: &Path, region_rule: RegionRule) -> Result<usize, String> {
    let fixture = Fixture::read(path);
    let config = fixture.config();
    for (option, published) in [
        ("kv_downsample_mode", Value::from("identity")),
        ("param_attention", Value::from("qkvo")),
        ("soft_routing", Value::from(false)),
        ("diff_routing", Value::from(false)),
        ("param_routing", Value::from(false)),
        ("side_dwconv", Value::from(5)),
        ("qk_dim", config["dim"].clone()),
    ] {
        if config.get(option).is_some_and(|value| *value != published) {
            return Err(format!("no published variant has {option} = {}", config[option]));
        }
    }
    let bra = BraConfig::new(
        integer(&config["dim"]),
        integer(&config["num_heads"]),
        integer(&config["n_win"]),
        integer(&config["topk"]),
    )
    .with_region_rule(region_rule)
    .with_qk_scale(config["qk_scale"].as_f64());
    let style = match region_rule {
        RegionRule::PadFirst => KeyStyle::BiFormer,
        RegionRule::Floor => KeyStyle::StlNchw,
    };
    let operators = check_operators(path, &fixture, &bra);
    Ok(operators + check_module(path, &fixture, AttentionConfig::Bra(bra), style))
}

/// The operators alone, on the recorded Q, K and V.
fn check_operators(path: &Path, fixture: &Fixture, bra: &BraConfig) -> usize {
    let device = Device::default();
    let what = |part: &str| format!("{} {part}", name(path));
    let [_, height, width, _]: [usize; 4] =
        std::array::from_fn(|i| integer(&fixture.meta["shape_nhwc"][i]));
    let grid = match bra.region_rule {
        RegionRule::PadFirst => RegionGrid::pad_first(height, width, bra.n_win),
        RegionRule::Floor => RegionGrid::floor(height, width, bra.n_win),
    };
    let map = |name: &str| match bra.region_rule {
        RegionRule::PadFirst => {
            let x = fixture.tensor::<5>(name, &device); // [batch, regions, height, width, channels]
            let [batch, regions, h, w, channels] = x.dims();
            assert_eq!([h, w], [grid.region_height, grid.region_width], "{}", what(name));
            grid.merge(x.reshape([batch, regions, h * w, channels]))
        }
        RegionRule::Floor => fixture.tensor::<4>(name, &device).permute([0, 2, 3, 1]),
    };
    let [query, key, value] = ["q", "k", "v"].map(map);

    let bias = fixture.tensor::<1>("w.lepe.bias", &device);
    let lce = depthwise_conv(value.clone(), fixture.tensor("w.lepe.weight", &device), bias);
    let expected = &fixture.state_tensor("lepe").data;
    assert_close(&what("lepe"), &values(lce.permute([0, 3, 1, 2])), expected, OUTPUT_TOLERANCE);

    let [query, key, value] = [query, key, value].map(|x| grid.pad(x));
    let exclude_padding = bra.region_rule == RegionRule::Floor;
    let options = RoutingOptions { topk: bra.topk, exclude_padding, mask_padding: false };
    let region_graph = route(&query, &key, &grid, &options);
    assert_same_routing(&what("ridx"), &Routing { grid, region_graph }, fixture.routing("ridx"));

    let options = RoutedAttentionOptions {
        num_heads: bra.num_heads,
        scale: bra.qk_scale.unwrap_or((bra.dim as f64).powf(-0.5)),
        mask_padding: false,
    };
    let region_graph = fixture.routing_tensor("ridx", &device);
    let inputs = || (query.clone(), key.clone(), value.clone(), region_graph.clone());
    let fused = {
        let (query, key, value, region_graph) = inputs();
        routed_attention(query, key, value, region_graph, &grid, &options)
    };
    let definition = {
        let (query, key, value, region_graph) = inputs();
        routed_attention_traced(query, key, value, region_graph, &grid, &options).output
    };
    let expected = &fixture.state_tensor("attn_out").data;
    for (kind, output) in [("fused", fused), ("defined", definition)] {
        let output = match bra.region_rule {
            RegionRule::PadFirst => output,
            RegionRule::Floor => grid.crop(output).permute([0, 3, 1, 2]),
        };
        assert_close(
            &what(&format!("attn_out, {kind}")),
            &values(output),
            expected,
            OUTPUT_TOLERANCE,
        );
    }

    let routing = Some(Routing { grid, region_graph });
    let trace = AttentionTrace { output: grid.crop(value.clone()), routing, query, key, options };
    if grid.is_padded() {
        return 4; // what goes to padding is in the output, but in no picture
    }
    let expected = match bra.region_rule {
        RegionRule::PadFirst => fixture.tensor::<4>("attn_out", &device),
        RegionRule::Floor => fixture.tensor::<4>("attn_out", &device).permute([0, 2, 3, 1]),
    };
    check_maps(&what("maps"), &trace, value, expected, fixture.routing("ridx"));
    5
}

/// What `biformer visualize` draws: regions are those of the official code, and weights of a query
/// times values are its output.
fn check_maps(
    what: &str,
    trace: &AttentionTrace,
    value: Tensor<4>,
    expected: Tensor<4>,
    (shape, ridx): &(Vec<usize>, Vec<i64>),
) {
    let [batch, height, width, channels] = value.dims();
    let (value, expected) = (values(value), values(expected));
    let (regions, topk) = (shape[1], shape[2]);
    let positions = height * width;
    for image in 0..batch {
        let maps = AttentionMaps::new(trace, image);
        for region in 0..regions {
            let routed: Vec<i64> = maps.routed_regions(region).iter().map(|&r| r as i64).collect();
            assert_eq!(
                routed,
                ridx[(image * regions + region) * topk..][..topk],
                "{what}: {region}"
            );
        }
        let head_dim = channels / maps.num_heads();
        let mut found = vec![0.0; positions * channels];
        for query in 0..positions {
            for head in 0..maps.num_heads() {
                let weights = maps.weights([query / width, query % width], Some(head));
                for (key, weight) in weights.into_iter().enumerate() {
                    let first = (image * positions + key) * channels + head * head_dim;
                    let values = &value[first..first + head_dim];
                    let target = &mut found[query * channels + head * head_dim..][..head_dim];
                    target.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
                }
            }
        }
        let expected = &expected[image * positions * channels..][..positions * channels];
        assert_close(what, &found, expected, OUTPUT_TOLERANCE);
    }
}

/// The module with its weights: output, routing, gradients.
fn check_module(path: &Path, fixture: &Fixture, config: AttentionConfig, style: KeyStyle) -> usize {
    let device = Device::default().autodiff();
    let what = |part: &str| format!("{} {part}", name(path));
    let is_nchw = fixture.meta["layout"] == "NCHW";
    let map = |x: Tensor<4>| if is_nchw { x.permute([0, 2, 3, 1]) } else { x };
    let unmap = |x: Tensor<4>| if is_nchw { x.permute([0, 3, 1, 2]) } else { x };

    let module: Attention = load_state_dict(config.init(&device), fixture.group("w."), style)
        .unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()));
    let input = fixture.tensor::<4>("input", &device).require_grad();
    let trace = module.forward_traced(map(input.clone()));
    let output = unmap(module.forward(map(input.clone())));
    let expected = &fixture.state_tensor("output").data;
    let traced = values(unmap(trace.output));
    assert_close(&what("traced output"), &traced, expected, OUTPUT_TOLERANCE);
    assert_close(&what("output"), &values(output.clone()), expected, OUTPUT_TOLERANCE);
    let mut comparisons = 2;
    if let Some(routing) = trace.routing {
        assert_same_routing(&what("ridx"), &routing, fixture.routing("ridx"));
        comparisons += 1;
    }

    if fixture.has("loss.coef") {
        let coefficients = fixture.tensor::<4>("loss.coef", &device);
        let mut gradients = (output * coefficients).sum().backward();
        let expected = &fixture.state_tensor("g.input").data;
        let found = values(input.grad_remove(&mut gradients).expect("a gradient of the input"));
        assert_close_l2(&what("g.input"), &found, expected, GRADIENT_TOLERANCE);
        let found = gradients_by_key(module, gradients, style);
        for (key, expected) in fixture.group("g.").iter().filter(|(key, _)| *key != "input") {
            let found = &found.get(key).unwrap_or_else(|| panic!("no gradient of `{key}`"));
            assert_eq!(found.shape, expected.shape, "{}", what(key));
            assert_close_l2(&what(key), &found.data, &expected.data, GRADIENT_TOLERANCE);
            comparisons += 1;
        }
        comparisons += 1;
    }
    comparisons
}

fn integer(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("expected an integer, found {value}")) as usize
}
