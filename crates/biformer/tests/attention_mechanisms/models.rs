//! The models of Table 5 as wholes, and Swin's weights under the names of others.

use biformer::analysis::backbone_costs;
use biformer::attention::{STL_NAMES, StlMechanism};
use biformer::classification::{ImageClassifier, ImageClassifierConfig};
use biformer::layers::{PatchEmbed, PatchEmbedConfig, PatchEmbedKind, SwinMerging};
use biformer::models::{BiFormerConfig, MODEL_NAMES};
use biformer::train::is_decayed;
use biformer::weights::{
    KeyStyle, StateDict, StateTensor, keys_and_shapes, load_state_dict, read_state_dict,
    state_dict, write_safetensors,
};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{assert_close, disturbed, numbers, values};

/// Narrow and shallow, with blocks of both kinds in each stage.
fn narrow(config: BiFormerConfig) -> BiFormerConfig {
    BiFormerConfig { depths: [2; 4], embed_dims: [32, 64, 96, 128], ..config }
}

fn all() -> impl Iterator<Item = BiFormerConfig> {
    let mechanisms = StlMechanism::ALL.into_iter().map(BiFormerConfig::stl_with);
    mechanisms.chain([BiFormerConfig::swin_tiny()]).map(narrow)
}

#[test]
fn names_lead_to_mechanisms() {
    for (name, mechanism) in STL_NAMES.into_iter().zip(StlMechanism::ALL) {
        let config = BiFormerConfig::from_name(name).expect("a known name");
        assert_eq!(config.mechanism, Some(mechanism), "{name}");
        assert!(MODEL_NAMES.contains(&name) && !config.is_traceable(), "{name}");
    }
    assert!(BiFormerConfig::stl().is_traceable());
    let error = BiFormerConfig::from_name("stl_linear").expect_err("no such mechanism").to_string();
    assert!(error.contains("stl_linear") && error.contains("stl_quad_tree"), "{error}");
}

/// Sizes that are no multiples of 32, of windows or of cells, down to one token.
#[test]
fn maps_have_strides_4_to_32_at_any_size() {
    for config in all() {
        let model = disturbed(config.init(&Device::default()));
        for [height, width] in [[64, 64], [33, 32], [61, 130]] {
            let x = numbers([1, 3, height, width], 3, &Device::default());
            let mut size = [height, width];
            for (i, map) in model.forward_features(x).into_iter().enumerate() {
                let stride = if i == 0 { 4 } else { 2 };
                size = size.map(|side| match config.key_style() {
                    KeyStyle::Swin => side.div_ceil(stride),
                    _ => side / stride,
                });
                assert_eq!(map.dims(), [1, config.embed_dims[i], size[0], size[1]], "{config}");
                assert!(values(map).iter().all(|x| x.is_finite()), "{config}");
            }
        }
    }
}

/// What is prepared gives the same, and costs the same.
#[test]
fn models_prepared_for_inference_give_the_same_maps() {
    for config in all() {
        let model = disturbed(config.init(&Device::default()));
        let x = numbers([2, 3, 64, 64], 5, &Device::default());
        let [.., expected] = model.forward_stages(x.clone());
        let costs = backbone_costs(&model, [64, 64]);
        let prepared = model.for_inference();
        let [.., found] = prepared.forward_stages(x);
        let (found, expected) = (values(found), values(expected));
        let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            // As in `models.rs`: norms are folded into sums of hundreds of terms.
            assert!((found - expected).abs() < 1e-4 * largest, "{config}: {found}, {expected}");
        }
        assert_eq!(backbone_costs(&prepared, [64, 64]), costs, "{config}");
    }
}

/// Mechanisms have the same shapes, and yet no weights of one are taken by another.
#[test]
fn weights_of_another_mechanism_are_refused() {
    let init = |mechanism| narrow(BiFormerConfig::stl_with(mechanism)).init(&Device::default());
    let weights = state_dict(&init(StlMechanism::ShiftedWindow), KeyStyle::Stl);
    load_state_dict(init(StlMechanism::ShiftedWindow), weights.clone(), KeyStyle::Stl)
        .expect("its own keys");
    let mismatch = load_state_dict(init(StlMechanism::BlockGrid), weights, KeyStyle::Stl)
        .expect_err("another mechanism");
    let message = mismatch.to_string();
    assert!(message.contains("attn.ShiftedWindow.qkv.bias"), "{message}");
    assert!(message.contains("attn.BlockGrid.qkv.bias"), "{message}");
}

fn swin() -> ImageClassifier {
    let config = narrow(BiFormerConfig::swin_tiny());
    disturbed(ImageClassifierConfig::new(config).with_num_classes(5).init(&Device::default()))
}

/// The names and shapes that Microsoft's code gives a Swin of such sizes, buffers aside.
#[test]
fn names_are_microsofts() {
    let keys = keys_and_shapes(&swin(), KeyStyle::Swin);
    for (key, shape) in [
        ("patch_embed.proj.weight", vec![32, 3, 4, 4]),
        ("patch_embed.norm.bias", vec![32]),
        ("layers.0.blocks.1.norm1.weight", vec![32]),
        ("layers.0.blocks.1.attn.relative_position_bias_table", vec![169, 1]),
        ("layers.3.blocks.0.attn.qkv.weight", vec![3 * 128, 128]),
        ("layers.3.blocks.0.attn.qkv.bias", vec![3 * 128]),
        ("layers.3.blocks.0.attn.proj.weight", vec![128, 128]),
        ("layers.1.blocks.0.mlp.fc1.weight", vec![4 * 64, 64]),
        ("layers.1.blocks.0.mlp.fc2.bias", vec![64]),
        ("layers.0.downsample.reduction.weight", vec![64, 4 * 32]),
        ("layers.2.downsample.norm.weight", vec![4 * 96]),
        ("norm.weight", vec![128]),
        ("head.weight", vec![5, 128]),
    ] {
        assert!(keys.contains(&(key.to_owned(), shape)), "no {key}");
    }
    // 3 of the stem and 3 of each merging, 13 of each of 8 blocks, norm and head.
    assert_eq!(keys.len(), 4 + 3 * 3 + 13 * 8 + 4);
}

/// As in Swin's recipe; weights of linear layers and convolutions are.
#[test]
fn tables_of_relative_positions_are_not_decayed() {
    for config in all() {
        let model = config.init(&Device::default());
        for (key, shape) in keys_and_shapes(&model, config.key_style()) {
            let is_weight = key.ends_with("weight") && shape.len() > 1;
            assert_eq!(is_decayed(&key, &shape), is_weight, "{key}");
        }
    }
}

/// Microsoft's order: x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]; zeros where a row or column lacks.
#[test]
fn swin_merges_four_tokens() {
    let embed = PatchEmbedConfig::new(PatchEmbedKind::Swin, 4, 8, false).init(&Device::default());
    let embed = disturbed(embed);
    let PatchEmbed::SwinMerging(SwinMerging { norm, reduction }) = &embed else {
        panic!("a merging of Swin")
    };
    for [height, width] in [[4, 6], [3, 5]] {
        let x = numbers([2, height, width, 4], 9, &Device::default());
        let (rows, cols) = (height.div_ceil(2), width.div_ceil(2));
        let below = (0, 2 * rows - height);
        let padded = x.clone().pad([(0, 0), below, (0, 2 * cols - width), (0, 0)], 0.0);
        let every_second = |row: usize, col: usize| {
            let places = |first: usize, count: usize| {
                let places: Vec<i64> = (0..count).map(|i| (first + 2 * i) as i64).collect();
                Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &Device::default())
            };
            padded.clone().select(1, places(row, rows)).select(2, places(col, cols))
        };
        let four = [[0, 0], [1, 0], [0, 1], [1, 1]].map(|[row, col]| every_second(row, col));
        let expected = reduction.forward(norm.forward(Tensor::cat(four.to_vec(), 3)));
        assert_close(&format!("{height} × {width}"), embed.forward(x), expected);
    }
}

/// timm's names, and Microsoft's buffers.
#[test]
fn files_of_timm_and_microsoft_are_read() {
    let model = swin();
    let official = state_dict(&model, KeyStyle::Swin);
    let timm = official.clone().into_iter().map(|(key, tensor)| {
        let renamed = match key.split('.').collect::<Vec<_>>().as_slice() {
            ["layers", stage, "downsample", rest @ ..] => {
                let stage = stage.parse::<usize>().expect("a number") + 1;
                format!("layers.{stage}.downsample.{}", rest.join("."))
            }
            ["head", rest] => format!("head.fc.{rest}"),
            _ => key,
        };
        (renamed, tensor)
    });
    let mut microsoft = official.clone();
    let mask = StateTensor::new(vec![4, 49, 49], vec![-100.0; 4 * 49 * 49]);
    microsoft.insert("layers.0.blocks.1.attn_mask".to_owned(), mask);
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (name, weights) in [("timm", timm.collect::<StateDict>()), ("microsoft", microsoft)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        write_safetensors(&path, &weights, &Default::default()).expect("it can be written");
        let found = read_state_dict(&path).expect("it can be read");
        assert_eq!(found, official, "{name}");
    }
}
