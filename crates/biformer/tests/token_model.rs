//! The parts of a classifier that token labeling trains: class attention and the head of the tokens.

use biformer::analysis::classifier_costs;
use biformer::classification::{
    ClassBlock, ClassifierInfo, ImageClassifier, ImageClassifierConfig, LoadOptions, TokenParts,
    load_classifier, save_classifier,
};
use biformer::data::EvalTransform;
use biformer::models::{BiFormerConfig, MODEL_NAMES};
use biformer::weights::{keys_and_shapes, load_state_dict, state_dict, write_safetensors};
use burn::tensor::{Device, Distribution, Tensor, activation::softmax};

const CLASSES: usize = 7;

fn small(class_blocks: usize, aux_head: bool, device: &Device) -> ImageClassifier {
    let config = ImageClassifierConfig {
        num_classes: CLASSES,
        class_blocks,
        aux_head,
        ..ImageClassifierConfig::new(BiFormerConfig::nano())
    };
    config.init(device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32")
}

/// Float32 sums of a few hundred terms are good to some 1e-6 of the largest.
fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |max, x| max.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 2e-5 * largest, "{what}: {found}, expected {expected}");
    }
}

/// Weights that are not those of the start, where biases are 0 and running means too.
fn disturbed(model: ImageClassifier) -> ImageClassifier {
    let style = model.backbone.config.key_style();
    let mut weights = state_dict(&model, style);
    for (number, tensor) in weights.values_mut().enumerate() {
        for (i, value) in tensor.data.iter_mut().enumerate() {
            *value += 0.05 + ((i * 7 + number) % 13) as f32 / 200.0;
        }
    }
    load_state_dict(model, weights, style).expect("its own keys")
}

/// Parameters with 1000 classes: those of the plain model (`models.rs`), 13 C² + 13 C less C² of a
/// block of class attention, and a head of 1000 (C + 1).
#[test]
fn parameters_are_those_of_the_papers_starred_models() {
    for (name, params, millions, gmacs) in [
        ("biformer_tiny", 13_142_760 + 3_152_384 + 513_000, None, 2.282),
        ("biformer_small", 25_536_232 + 3_152_384 + 513_000, Some(29), 4.541),
        ("biformer_base", 56_804_968 + 769_000, Some(58), 9.833),
    ] {
        let model =
            ImageClassifierConfig::token_labeling(name).expect("a model").init(&Device::default());
        let costs = classifier_costs(&model, [224, 224]);
        let found = costs.iter().map(|cost| cost.params).sum::<usize>();
        assert_eq!(found, params, "{name}");
        if let Some(millions) = millions {
            assert_eq!((found as f64 / 1e6).round() as i32, millions, "{name}");
        }
        let macs = costs.iter().map(|cost| cost.macs).sum::<usize>() as f64 / 1e9;
        assert!((macs / gmacs - 1.0).abs() < 0.01, "{name}: {macs} G");
    }
    ImageClassifierConfig::token_labeling("biformer_huge").expect_err("no such model");
}

/// Counted twice, and the names of Wave-ViT, in all styles.
#[test]
fn keys_are_those_of_wave_vit_and_all_are_counted() {
    for name in MODEL_NAMES {
        let config =
            ImageClassifierConfig::token_labeling(name).expect("a model").with_class_blocks(2);
        let model = config.init(&Device::default());
        let keys = keys_and_shapes(&model, config.backbone.key_style());
        let trained = keys.iter().filter(|(key, _)| !key.contains("running_"));
        let in_file: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let costs = classifier_costs(&model, [224, 224]);
        assert_eq!(costs.iter().map(|cost| cost.params).sum::<usize>(), in_file, "{name}");
        let [.., dim] = config.backbone.embed_dims;
        for (key, shape) in [
            ("aux_head.weight", vec![1000, dim]),
            ("aux_head.bias", vec![1000]),
            ("post_network.0.norm1.weight", vec![dim]),
            ("post_network.1.attn.kv.weight", vec![2 * dim, dim]),
            ("post_network.1.attn.q.bias", vec![dim]),
            ("post_network.1.attn.proj.weight", vec![dim, dim]),
            ("post_network.1.norm2.bias", vec![dim]),
            ("post_network.1.mlp.fc1.weight", vec![4 * dim, dim]),
            ("post_network.1.mlp.fc2.weight", vec![dim, 4 * dim]),
        ] {
            assert!(keys.contains(&(key.to_owned(), shape.clone())), "{name}: no {key} {shape:?}");
        }
    }
}

/// Class attention written out for one head at a time.
#[test]
fn a_class_block_is_attention_and_perceptron_of_the_class_token() {
    let device = Device::default();
    let (batch, height, width, dim, head_dim) = (2, 3, 2, 32, 4);
    let block = ClassBlock::new(dim, &device);
    let random = |dims| Tensor::<4>::random(dims, Distribution::Normal(0.0, 2.0), &device);
    let (class, tokens) = (random([batch, 1, 1, dim]), random([batch, height, width, dim]));
    let found = block.forward(class.clone(), tokens.clone());
    assert_eq!(found.dims(), class.dims());

    let all = Tensor::cat(vec![class.clone(), tokens.reshape([batch, 1, height * width, dim])], 2);
    let all = block.norm1.forward(all).reshape([batch, 1 + height * width, dim]);
    let query = block.attn.q.forward(all.clone().narrow(1, 0, 1));
    let kv = block.attn.kv.forward(all);
    let heads = (0..dim / head_dim).map(|head| {
        let part = |x: &Tensor<3>, first| x.clone().narrow(2, first + head * head_dim, head_dim);
        let scores = part(&query, 0).matmul(part(&kv, 0).swap_dims(1, 2)) / 2.0; // √4
        softmax(scores, 2).matmul(part(&kv, dim))
    });
    let attended = block.attn.proj.forward(Tensor::cat(heads.collect(), 2));
    let class = class + attended.reshape([batch, 1, 1, dim]);
    let expected = class.clone() + block.mlp.forward_fused(block.norm2.forward(class), None, None);
    assert_close(&values(found), &values(expected), "class token");
}

#[test]
fn at_test_time_half_of_the_best_token_is_added() {
    let device = Device::default();
    for class_blocks in [0, 2] {
        let model = disturbed(small(class_blocks, true, &device));
        let c5 = Tensor::random([3, 2, 3, 256], Distribution::Default, &device);
        let (class, tokens) = model.classify_tokens(c5.clone());
        assert_eq!(tokens.dims(), [3, 2, 3, CLASSES]);
        let best = tokens.reshape([3, 6, CLASSES]).max_dim(1).reshape([3, CLASSES]);
        assert_close(&values(model.classify(c5)), &values(class + best * 0.5), "logits");
    }
}

/// The mean of linear functions is the linear function of the mean, so a plain model tells the tokens
/// apart with the head it has.
#[test]
fn tokens_of_a_plain_model_are_logits_whose_mean_is_the_pictures() {
    let device = Device::default();
    let model = disturbed(small(0, false, &device));
    let c5 = Tensor::random([2, 4, 4, 256], Distribution::Default, &device);
    let (class, tokens) = model.classify_tokens(c5.clone());
    let mean = tokens.reshape([2, 16, CLASSES]).mean_dim(1).reshape([2, CLASSES]);
    assert_close(&values(mean), &values(class.clone()), "mean of the tokens");
    assert_eq!(values(class), values(model.classify(c5)));
}

#[test]
fn prepared_for_inference_it_says_the_same() {
    let device = Device::default();
    let model = disturbed(small(1, true, &device));
    let x = Tensor::<4>::random([2, 3, 64, 96], Distribution::Default, &device);
    let expected = values(model.forward(x.clone()));
    assert_close(&values(model.for_inference().forward(x)), &expected, "logits");
}

#[test]
fn gradients_reach_every_parameter() {
    let device = Device::default().autodiff();
    let model = small(2, true, &device);
    let x = Tensor::<4>::random([2, 3, 64, 64], Distribution::Default, &device);
    let [.., c5] = model.backbone.forward_stages(x);
    let (class, tokens) = model.classify_tokens(c5);
    let gradients = (class.square().sum() + tokens.square().sum()).backward();
    let reached = |weight: &Tensor<2>, what: &str| {
        let gradient = weight.grad(&gradients).unwrap_or_else(|| panic!("{what} has none"));
        assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0, "{what}");
    };
    for (i, block) in model.post_network.iter().enumerate() {
        let ClassBlock { attn, mlp, .. } = block;
        for linear in [&attn.q, &attn.kv, &attn.proj, &mlp.fc1, &mlp.fc2] {
            reached(&linear.weight.val(), &format!("block {i}"));
        }
    }
    reached(&model.head.weight.val(), "head");
    reached(&model.aux_head.expect("a head").weight.val(), "aux_head");
}

#[test]
fn a_file_tells_its_parts_and_others_are_made_or_left_out() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("weights.safetensors");
    let classes: Vec<String> = (0..CLASSES).map(|class| format!("class {class}")).collect();
    let info = ClassifierInfo {
        model: "biformer_nano".to_owned(),
        classes,
        transform: EvalTransform::new(64),
    };
    let x = Tensor::<4>::random([1, 3, 64, 64], Distribution::Default, &device);
    let parts = |class_blocks, aux_head| TokenParts { class_blocks, aux_head };
    for kept in [parts(0, false), parts(0, true), parts(2, false), parts(1, true)] {
        let model = disturbed(small(kept.class_blocks, kept.aux_head, &device));
        save_classifier(&path, &model, &info).expect("it can be written");
        let load =
            |options: &LoadOptions| load_classifier(&path, options, &device).expect("a model");
        let loaded = load(&LoadOptions::default());
        assert_eq!(
            values(loaded.model.forward(x.clone())),
            values(model.forward(x.clone())),
            "{kept:?}"
        );
        for asked in [parts(0, false), parts(1, true), parts(3, false)] {
            let options = LoadOptions { token_parts: Some(asked), ..LoadOptions::default() };
            let other = load(&options).model;
            let found = parts(other.post_network.len(), other.aux_head.is_some());
            assert_eq!(found, asked, "of {kept:?}");
            assert_eq!(values(other.head.weight.val()), values(model.head.weight.val()));
        }
        let fewer = LoadOptions { num_classes: Some(3), ..LoadOptions::default() };
        let fewer = load(&fewer);
        assert_eq!((fewer.model.num_classes(), fewer.replaced_head), (3, Some(CLASSES)));
        assert_eq!(fewer.model.aux_head.is_some(), kept.aux_head);
    }

    // Without metadata the weights tell; a part that is not whole is an error.
    let model = small(1, true, &device);
    let mut weights = state_dict(&model, model.backbone.config.key_style());
    write_safetensors(&path, &weights, &Default::default()).expect("it can be written");
    let loaded = load_classifier(&path, &LoadOptions::default(), &device).expect("a model");
    assert_eq!(loaded.info.model, "biformer_nano");
    weights.remove("post_network.0.attn.kv.bias");
    write_safetensors(&path, &weights, &Default::default()).expect("it can be written");
    for token_parts in [None, Some(parts(1, true))] {
        let model = Some("biformer_nano".to_owned());
        let options = LoadOptions { model, token_parts, ..LoadOptions::default() };
        let error = load_classifier(&path, &options, &device).expect_err("a part is missing");
        assert!(error.to_string().contains("post_network.0.attn.kv.bias"), "{error}");
    }
}
