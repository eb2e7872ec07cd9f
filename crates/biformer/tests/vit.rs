//! Plain ViTs: their attentions against each other and against masks, what they begin with, the maps they give.

use biformer::analysis::segmentor_costs;
use biformer::attention::{Attention, WindowAttentionConfig};
use biformer::layers::{SimpleFeaturePyramidConfig, max_pool};
use biformer::models::*;
use biformer::segmentation::SegmentorConfig;
use biformer::weights::{
    KeyStyle, StateDict, StateTensor, load_state_dict, read_state_dict, state_dict,
    write_safetensors,
};
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Distribution, Tensor, TensorData};

/// Four blocks of 32 channels on 8 × 8 tokens of 4 × 4 pixels, windows of 3, 4 × 4 regions.
fn config(attention: VitAttention, propagation: Propagation) -> VitConfig {
    VitConfig {
        depth: 4,
        patch_size: 4,
        grid: 8,
        attention,
        window_size: 3,
        n_win: 4,
        topk: 5,
        propagation,
        pyramid_channels: 12,
        ..VitConfig::new(32, 2)
    }
}

fn pictures(size: [usize; 2], device: &Device) -> Tensor<4> {
    let [height, width] = size;
    Tensor::random([2, 3, height, width], Distribution::Normal(0.0, 1.0), device)
}

/// Weights as large as those that have learnt: fresh ones attend to all tokens alike.
fn learnt(model: Vit) -> Vit {
    let mut weights = state_dict(&model, KeyStyle::Vit);
    for (key, tensor) in &mut weights {
        if key.ends_with("attn.qkv.weight") {
            tensor.data.iter_mut().for_each(|x| *x *= 15.0);
        }
    }
    load_state_dict(model, weights, KeyStyle::Vit).expect("its own keys")
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32")
}

/// Largest difference relative to the largest number.
fn distance<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f32 {
    let scale = expected.clone().abs().max().into_scalar::<f32>();
    (found - expected).abs().max().into_scalar::<f32>() / scale
}

/// Float32 sums of 32 to 300 terms, four blocks one behind the other.
const SUMS: f32 = 2e-5;

/// k = S² leaves nothing out, whether or not the map divides into regions: routing attention with the weights of
/// a global one is that global one. With fewer regions it is not.
#[test]
fn routing_to_all_regions_is_global_attention() {
    let device = Device::default();
    let global = learnt(config(VitAttention::Global, Propagation::None).init(&device));
    let bra = |topk| {
        let model = config(VitAttention::Bra, Propagation::None).with_topk(topk).init(&device);
        let begun = model.with_classifier_weights(state_dict(&global, KeyStyle::Vit));
        let begun = begun.expect("the same projections");
        assert_eq!(begun.fresh.len(), 2 * 4, "{:?}", begun.fresh);
        assert!(begun.fresh.iter().all(|key| key.contains(".attn.lepe.")), "{:?}", begun.fresh);
        begun.backbone
    };
    let (all, some) = (bra(16), bra(5));
    for size in [[32, 32], [48, 28], [20, 36], [4, 9]] {
        let x = pictures(size, &device);
        let expected = global.forward_map(x.clone());
        let found = distance(all.forward_map(x.clone()), expected.clone());
        assert!(found < SUMS, "{size:?}: {found}");
        if size[0] > 4 {
            let found = distance(some.forward_map(x), expected);
            assert!(found > 1e-3, "{size:?}: five regions are as good as all: {found}");
        }
    }
}

/// Attention to all tokens, with −∞ for those of other windows, written from the definition; outputs and
/// gradients, on maps that are a multiple of the window, that are not, and that are smaller.
#[test]
fn windows_are_full_attention_under_a_mask() {
    let device = Device::default().autodiff();
    let (batch, dim, num_heads, side) = (2, 24, 3, 3);
    let attention = WindowAttentionConfig::new(dim, num_heads).with_window_size(side).init(&device);
    for [height, width] in [[6, 9], [7, 5], [2, 3]] {
        let tokens = height * width;
        let x = Tensor::<4>::random(
            [batch, height, width, dim],
            Distribution::Normal(0.0, 20.0),
            &device,
        );
        let coefficients = x.random_like(Distribution::Default);
        let x = x.require_grad();
        let run = |output: Tensor<4>| {
            let gradients = (output.clone() * coefficients.clone()).sum().backward();
            (output.inner(), x.grad(&gradients).expect("a gradient"))
        };

        let window = |token: usize| (token / width / side, token % width / side);
        let mask = (0..tokens * tokens).map(|i| {
            if window(i / tokens) == window(i % tokens) { 0.0 } else { f32::NEG_INFINITY }
        });
        let mask = TensorData::new(mask.collect::<Vec<_>>(), [1, 1, tokens, tokens]);
        let mask = Tensor::<4>::from_data(mask, &device);
        let qkv = attention.qkv.forward(x.clone());
        let [query, key, value] = [0, 1, 2].map(|i| {
            qkv.clone()
                .narrow(3, i * dim, dim)
                .reshape([batch, tokens, num_heads, dim / num_heads])
                .swap_dims(1, 2)
        });
        let scale = ((dim / num_heads) as f64).powf(-0.5);
        let weights = softmax(query.matmul(key.swap_dims(2, 3)) * scale + mask, 3);
        let attended = weights.matmul(value).swap_dims(1, 2).reshape([batch, height, width, dim]);
        let (expected, expected_grad) = run(attention.output.forward(attended));

        let (found, found_grad) = run(attention.forward(x.clone()));
        let what = format!("{height} × {width}");
        assert!(distance(found, expected.clone()) < SUMS, "{what}");
        assert!(distance(found_grad, expected_grad) < SUMS, "{what}: gradient");
        let valid = attention.clone().valid();
        let x = x.inner();
        assert!(distance(valid.forward(x.clone()), expected.clone()) < SUMS, "{what}: inference");
        let trace = valid.forward_traced(x);
        assert!(distance(trace.output.clone(), expected) < SUMS, "{what}: trace");
        // Rows of weights over the tokens of the map alone sum to 1.
        let sums = trace.weights(0..1).sum_dim(3);
        assert!(distance(sums.clone(), sums.ones_like()) < 1e-6, "{what}");
    }
}

/// Window blocks with propagation blocks that have learnt nothing are window blocks, to the last bit; the last
/// block of each quarter is what global propagation replaces.
#[test]
fn fresh_propagation_is_the_identity() {
    let device = Device::default();
    let x = Tensor::<4>::random([2, 5, 4, 16], Distribution::Default, &device);
    let block = ConvPropagation::new(16, &device);
    assert_eq!(values(block.forward(x.clone())), values(x));

    let plain = learnt(config(VitAttention::Window, Propagation::None).init(&device));
    let conv = config(VitAttention::Window, Propagation::Conv).init(&device);
    assert_eq!(conv.propagation.len(), 4);
    let begun = conv.with_classifier_weights(state_dict(&plain, KeyStyle::Vit)).expect("they fit");
    let x = pictures([32, 28], &device);
    assert_eq!(values(begun.backbone.forward_map(x.clone())), values(plain.forward_map(x)));

    let globals = VitConfig::from_name("vit_tiny_bra_global").expect("a name").init(&device);
    let globals = globals.blocks.iter().map(|block| matches!(block.attn, Attention::Full(_)));
    let expected = (1..=12).map(|i| i % 3 == 0);
    assert!(globals.eq(expected));
}

/// What begins at zero learns: gradients reach the local enhancement, and the last norm of a propagation block.
#[test]
fn what_begins_at_zero_has_a_gradient() {
    let device = Device::default().autodiff();
    let norm = |gradient: Option<Tensor<1>>| {
        gradient.expect("a gradient").abs().sum().into_scalar::<f32>()
    };
    let bra = config(VitAttention::Bra, Propagation::None).init(&device);
    let gradients = bra.forward_map(pictures([32, 32], &device)).powi_scalar(3).sum().backward();
    for block in &bra.blocks {
        let Attention::Bra(attention) = &block.attn else { panic!("another attention") };
        let gradient = attention.lce.weight.val().grad(&gradients);
        assert!(norm(gradient.map(|gradient| gradient.flatten(0, 3))) > 0.0);
    }
    let conv = config(VitAttention::Window, Propagation::Conv).init(&device);
    let gradients = conv.forward_map(pictures([32, 32], &device)).powi_scalar(3).sum().backward();
    for block in &conv.propagation {
        assert!(norm(block.convs[2].norm.gamma.val().grad(&gradients)) > 0.0);
    }
}

/// Strides 4, 8, 16 and 32 of whole tokens, for any picture, and the same numbers prepared and traced.
#[test]
fn four_maps_of_any_picture() {
    let device = Device::default();
    for (attention, propagation) in [
        (VitAttention::Window, Propagation::Conv),
        (VitAttention::Window, Propagation::Global),
        (VitAttention::Bra, Propagation::Global),
    ] {
        let model = learnt(config(attention, propagation).with_depth(8).init(&device));
        let prepared = model.clone().for_inference_in(biformer::Precision::F32);
        for [height, width] in [[32, 32], [1, 1], [21, 50]] {
            let x = pictures([height, width], &device);
            let [rows, cols]: [usize; 2] = [height, width].map(|side: usize| side.div_ceil(4));
            let maps = model.forward_maps(x.clone());
            let sizes = [[4 * rows, 4 * cols], [2 * rows, 2 * cols], [rows, cols]];
            let sizes = [sizes[0], sizes[1], sizes[2], [rows.div_ceil(2), cols.div_ceil(2)]];
            for (map, [rows, cols]) in maps.iter().zip(sizes) {
                assert_eq!(map.dims(), [2, rows, cols, 12], "{height} × {width}");
            }
            let (traced, traces) = model.forward_traced(x.clone());
            assert_eq!(traces.len(), 8);
            let prepared = prepared.forward_maps(x);
            for ((map, traced), prepared) in maps.into_iter().zip(traced).zip(prepared) {
                assert!(distance(traced, map.clone()) < SUMS, "{height} × {width}, traced");
                assert!(distance(prepared, map) < SUMS, "{height} × {width}, prepared");
            }
        }
    }
}

#[test]
fn the_pyramid_takes_maxima_of_what_is_there() {
    let device = Device::default();
    let x = Tensor::<1>::from_data([1.0, 5.0, -3.0, 2.0, 4.0, -1.0, -9.0, -8.0, -7.0], &device);
    let pooled = max_pool(x.reshape([1, 3, 3, 1]));
    assert_eq!(values(pooled), [5.0, -1.0, -8.0, -7.0]);
    let pyramid = SimpleFeaturePyramidConfig::new(16).with_channels_out(8).init(&device);
    let maps = pyramid.forward(Tensor::random([2, 5, 6, 16], Distribution::Default, &device));
    let sizes = maps.map(|map| map.dims());
    assert_eq!(sizes, [[2, 20, 24, 8], [2, 10, 12, 8], [2, 5, 6, 8], [2, 3, 3, 8]]);
}

/// timm's counts with 1000 classes (deit_tiny, deit_small, deit_base: 5,717,416, 22,050,664 and 86,567,656)
/// without head, class token and positions.
#[test]
fn parameters_are_those_of_deit() {
    for (size, expected) in [("tiny", 5_486_400), ("small", 21_589_632), ("base", 85_646_592)] {
        let name = format!("vit_{size}_window_global");
        let config = VitConfig::from_name(&name).expect("a name");
        let model = SegmentorConfig::upernet(config).init(&Device::default());
        let parts = ["patch_embed", "blocks", "norm"].map(|part| format!("backbone.{part}"));
        let costs = segmentor_costs(&model, [512, 512]);
        let of_deit = costs.iter().filter(|cost| parts.iter().any(|p| cost.name.starts_with(p)));
        assert_eq!(of_deit.map(|cost| cost.params).sum::<usize>(), expected, "{name}");
    }
    for name in VIT_NAMES {
        assert_eq!(VitConfig::from_name(name).expect(name).depth, 12);
    }
    for name in ["vit_base", "vit_huge_bra", "vit_base_conv", "biformer_tiny"] {
        let error = VitConfig::from_name(name).expect_err(name).to_string();
        assert!(VIT_NAMES.iter().all(|known| error.contains(known)), "{error}");
    }
    let error = BackboneConfig::from_name("resnet50").expect_err("no such model").to_string();
    assert!(error.contains("biformer_small") && error.contains("vit_base_bra"), "{error}");
}

/// A classifier as timm has it: a class token, positions of 14 × 14 and one more, a head.
fn timm_classifier(device: &Device) -> StateDict {
    let model = config(VitAttention::Global, Propagation::None).with_grid(14).init(device);
    let mut weights = state_dict(&model, KeyStyle::Vit);
    weights.retain(|key, _| !key.starts_with("pyramid."));
    let numbers = |shape: Vec<usize>| {
        let count = shape.iter().product::<usize>();
        StateTensor::new(shape, (0..count).map(|i| (i as f32 * 0.7).sin()).collect())
    };
    weights.insert("cls_token".to_owned(), numbers(vec![1, 1, 32]));
    weights.insert("pos_embed".to_owned(), numbers(vec![1, 1 + 14 * 14, 32]));
    weights.insert("head.weight".to_owned(), numbers(vec![10, 32]));
    weights.insert("head.bias".to_owned(), numbers(vec![10]));
    weights
}

/// PyTorch's bicubic, token by token, with a = −0.75: for positions within the map and beyond it.
fn bicubic(map: &[f32], side: usize, grid: usize, dim: usize, place: [usize; 2]) -> Vec<f32> {
    let taps = |place: usize| {
        let at = (place as f64 + 0.5) * side as f64 / grid as f64 - 0.5;
        let t = at - at.floor();
        let far = |x: f64| -0.75 * (x * x * x - 5.0 * x * x + 8.0 * x - 4.0);
        let near = |x: f64| 1.25 * x * x * x - 2.25 * x * x + 1.0;
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        let token =
            |i: usize| (at.floor() as i64 + i as i64 - 1).clamp(0, side as i64 - 1) as usize;
        [0, 1, 2, 3].map(|i| (token(i), weights[i]))
    };
    let mut sums = vec![0.0; dim];
    for (row, row_weight) in taps(place[0]) {
        for (col, col_weight) in taps(place[1]) {
            let token = &map[(row * side + col) * dim..][..dim];
            let weight = row_weight * col_weight;
            sums.iter_mut().zip(token).for_each(|(sum, x)| *sum += weight * f64::from(*x));
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[test]
fn a_backbone_begins_with_a_classifier_of_timm() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deit.safetensors");
    write_safetensors(&path, &timm_classifier(&device), &Default::default()).expect("a file");
    let weights = read_state_dict(&path).expect("what was written");

    for (attention, propagation, own) in [
        (VitAttention::Global, Propagation::None, 0),
        (VitAttention::Window, Propagation::Global, 0),
        (VitAttention::Window, Propagation::Conv, 4 * 9), // a kernel and a norm, three times
        (VitAttention::Bra, Propagation::None, 4 * 2),    // a local enhancement each
        (VitAttention::Bra, Propagation::Global, 0),      // all four blocks end a quarter
    ] {
        let model = config(attention, propagation).init(&device);
        let begun = model.with_classifier_weights(weights.clone()).expect("it fits");
        assert_eq!(begun.left_out, ["cls_token", "head.bias", "head.weight"]);
        let is_own = |key: &&String| !key.starts_with("pyramid.");
        assert_eq!(begun.fresh.iter().filter(is_own).count(), own, "{:?}", begun.fresh);
        let found = state_dict(&begun.backbone, KeyStyle::Vit);
        assert_eq!(found.len(), begun.loaded.len() + begun.fresh.len());
        for key in begun.loaded.iter().filter(|key| *key != "pos_embed") {
            assert_eq!(found[key], weights[key], "{key}");
        }
        let positions = &found["pos_embed"];
        assert_eq!(positions.shape, [1, 64, 32]);
        let old = &weights["pos_embed"].data[32..]; // without that of the class token
        for place in [[0, 0], [7, 7], [3, 5], [0, 4]] {
            let expected = bicubic(old, 14, 8, 32, place);
            let token = &positions.data[(place[0] * 8 + place[1]) * 32..][..32];
            for (found, expected) in token.iter().zip(expected) {
                // Sums of 16 terms of at most 1, rounded twice.
                assert!((found - expected).abs() < 2e-6, "{place:?}: {found} {expected}");
            }
        }
    }
    // The same grid: the same numbers.
    let model = config(VitAttention::Bra, Propagation::None).with_grid(14).init(&device);
    let begun = model.with_classifier_weights(weights.clone()).expect("it fits");
    let positions = &state_dict(&begun.backbone, KeyStyle::Vit)["pos_embed"];
    assert_eq!(positions.data, weights["pos_embed"].data[32..]);

    let mismatch_of = |change: &dyn Fn(&mut StateDict)| {
        let mut weights = weights.clone();
        change(&mut weights);
        let model = config(VitAttention::Bra, Propagation::None).init(&device);
        model.with_classifier_weights(weights).expect_err("a wrong file")
    };
    let mismatch = mismatch_of(&|weights| {
        let bias = weights.remove("blocks.2.attn.qkv.bias").expect("a bias");
        weights.insert("blocks.2.attn.q_bias".to_owned(), bias);
    });
    assert_eq!(mismatch.missing, ["blocks.2.attn.qkv.bias"]);
    assert_eq!(mismatch.unexpected, ["blocks.2.attn.q_bias"]);
    // 197 positions and no class token, and none at all.
    let mismatch = mismatch_of(&|weights| drop(weights.remove("cls_token")));
    let shapes = ("pos_embed".to_owned(), vec![1, 64, 32], vec![1, 197, 32]);
    assert_eq!(mismatch.shapes, [shapes]);
    let mismatch = mismatch_of(&|weights| {
        weights.insert("pos_embed".to_owned(), StateTensor::new(vec![1, 0, 32], Vec::new()));
    });
    assert_eq!(mismatch.shapes[0].2, [1, 0, 32]);
}
