//! Names and shapes of weights, files, the start from a classifier.

use biformer::Precision;
use biformer::classification::{ImageClassifier, ImageClassifierConfig};
use biformer::layers::PatchEmbedKind;
use biformer::models::{BiFormerConfig, MODEL_NAMES, VitConfig};
use biformer::segmentation::*;
use biformer::weights::{
    KeyStyle, StateDict, StateTensor, keys_and_shapes, state_dict, write_safetensors,
};
use burn::tensor::Device;

use super::{CLASSES, config, disturbed, info};
use crate::checkpoint_bytes as bytes;

/// Names of mmsegmentation with the sizes of Table 4, on every backbone.
#[test]
fn keys_are_those_of_mmsegmentation() {
    for name in MODEL_NAMES {
        let has = |method: &str, expected: &[(&str, &[usize])]| {
            let config = SegmentorConfig::from_names(name, method).expect("known names");
            let model = config.init(&Device::default());
            let keys = keys_and_shapes(&model, config.backbone.key_style());
            for (key, shape) in expected {
                let entry = (key.to_string(), shape.to_vec());
                assert!(keys.contains(&entry), "{method} on {name}: no {key} {shape:?}");
            }
            keys.iter().filter(|(key, _)| !key.starts_with("backbone.")).count()
        };
        let backbone = BiFormerConfig::from_name(name).expect("a model");
        let [c2, c3, c4, c5] = backbone.embed_dims;
        let stem = match backbone.patch_embed {
            PatchEmbedKind::Swin => "backbone.patch_embed.proj.weight",
            _ => "backbone.downsample_layers.0.0.weight",
        };
        let first = match backbone.patch_embed {
            PatchEmbedKind::NonOverlapped | PatchEmbedKind::Swin => [c2, 3, 4, 4],
            PatchEmbedKind::Overlapped => [c2 / 2, 3, 3, 3],
        };
        let found = has(
            "semantic_fpn",
            &[
                (stem, &first),
                ("backbone.extra_norms.3.weight", &[c5]),
                ("neck.lateral_convs.1.conv.weight", &[256, c3, 1, 1]),
                ("neck.fpn_convs.3.conv.bias", &[256]),
                ("decode_head.scale_heads.0.0.conv.weight", &[128, 256, 3, 3]),
                ("decode_head.scale_heads.3.4.conv.weight", &[128, 128, 3, 3]),
                ("decode_head.scale_heads.2.2.bn.running_var", &[128]),
                ("decode_head.conv_seg.weight", &[150, 128, 1, 1]),
            ],
        );
        // 4 laterals and 4 convolutions with a bias, 7 with a norm of 4 tensors, the classes.
        assert_eq!(found, 8 * 2 + 7 * 5 + 2, "semantic_fpn on {name}");
        let found = has(
            "upernet",
            &[
                (stem, &first),
                ("decode_head.psp_modules.3.1.conv.weight", &[512, c5, 1, 1]),
                ("decode_head.bottleneck.conv.weight", &[512, c5 + 2048, 3, 3]),
                ("decode_head.lateral_convs.2.conv.weight", &[512, c4, 1, 1]),
                ("decode_head.fpn_convs.2.bn.weight", &[512]),
                ("decode_head.fpn_bottleneck.conv.weight", &[512, 2048, 3, 3]),
                ("decode_head.conv_seg.bias", &[150]),
                ("auxiliary_head.convs.0.conv.weight", &[256, c4, 3, 3]),
                ("auxiliary_head.convs.0.bn.running_mean", &[256]),
                ("auxiliary_head.conv_seg.weight", &[150, 256, 1, 1]),
            ],
        );
        // 4 + 1 + 3 + 3 + 1 convolutions and that of the auxiliary head, twice the classes.
        assert_eq!(found, 13 * 5 + 2 * 2, "upernet on {name}");
        let all = c2 + c3 + c4 + c5;
        let found = has(
            "linear",
            &[
                (stem, &first),
                ("backbone.extra_norms.0.bias", &[c2]),
                ("decode_head.bn.running_var", &[all]),
                ("decode_head.conv_seg.weight", &[150, all, 1, 1]),
            ],
        );
        assert_eq!(found, 4 + 2, "linear on {name}");
    }
    SegmentorConfig::from_names("biformer_huge", "upernet").expect_err("no such model");
    let error = SegmentorConfig::from_names("biformer_tiny", "uper").expect_err("no such method");
    assert!(METHOD_NAMES.iter().all(|name| error.to_string().contains(name)), "{error}");
}

#[test]
fn files_give_back_what_was_saved() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    for method in METHOD_NAMES {
        let path = folder.path().join(format!("{method}.safetensors"));
        let mut config = config(method);
        config.backbone = config.backbone.with_n_win(4); // which weights cannot tell
        let model = disturbed(config.init(&device));
        save_segmentor(&path, &model, &info(method)).expect("a file");
        let loaded = load_segmentor(&path, &Default::default(), &device).expect("a segmentor");
        assert_eq!(loaded.model.backbone.n_win(), 4);
        assert_eq!(loaded.info, info(method));
        assert_eq!(loaded.replaced_head, None);
        let style = model.backbone.key_style();
        assert!(state_dict(&loaded.model, style) == state_dict(&model, style), "{method}");
    }
}

/// Names say what weights cannot: windows, regions and positions for another grid.
#[test]
fn files_give_back_plain_vits() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vit.safetensors");
    for name in ["vit_tiny_window_conv", "vit_tiny_bra_global"] {
        let mut vit = VitConfig::from_name(name).expect("a name");
        (vit.grid, vit.pyramid_channels) = (3, 20);
        let mut config = SegmentorConfig::upernet(vit).with_num_classes(CLASSES);
        config.decode_head = DecodeHeadConfig::Uper(
            UperHeadConfig { channels_in: [20; 4], channels: 12 },
            FcnHeadConfig { channels_in: 20, channels: 8 },
        );
        config.backbone = config.backbone.with_n_win(5);
        let model = disturbed(config.init(&device));
        let info = SegmentorInfo { model: name.to_owned(), ..info("upernet") };
        save_segmentor(&path, &model, &info).expect("a file");
        let loaded = load_segmentor(&path, &Default::default(), &device).expect("a segmentor");
        assert_eq!(loaded.info, info);
        assert_eq!(format!("{:?}", loaded.config), format!("{config:?}"));
        let weights = state_dict(&loaded.model, KeyStyle::Vit);
        assert!(weights == state_dict(&model, KeyStyle::Vit), "{name}");
        for key in ["pos_embed", "blocks.11.attn.proj.bias", "pyramid.to_stride_4.1.weight"] {
            assert!(weights.contains_key(&format!("backbone.{key}")), "{key}");
        }

        // Without a name they could be several models.
        write_safetensors(&path, &weights, &Default::default()).expect("a file");
        let error = load_segmentor(&path, &Default::default(), &device).expect_err("no name");
        assert!(error.to_string().contains("vit_tiny_window_global"), "{error}");
        let options = LoadDenseOptions { model: Some(name.to_owned()), ..Default::default() };
        let loaded = load_segmentor(&path, &options, &device).expect("a segmentor");
        assert!(state_dict(&loaded.model, KeyStyle::Vit) == weights, "{name}");
    }
}

/// As mmsegmentation writes them: a pickle of a dictionary with the weights under `state_dict`.
#[test]
fn checkpoints_of_mmsegmentation_are_read() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    for method in METHOD_NAMES {
        let model = config(method).init(&device);
        let style = model.backbone.key_style();
        let keys = keys_and_shapes(&model, style);
        let numel = |shape: &[usize]| shape.iter().product::<usize>();
        let longest = keys.iter().map(|(_, shape)| numel(shape)).max().expect("weights");
        let entries = keys.iter().map(|(key, shape)| {
            let mut stride = vec![1; shape.len()];
            for axis in (1..shape.len()).rev() {
                stride[axis - 1] = stride[axis] * shape[axis] as i64;
            }
            let shape: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
            bytes::tensor(key, "FloatStorage", longest as i64, &shape, &stride)
        });
        let entries: Vec<_> = entries.collect();
        let pickle = bytes::pickle(&[bytes::nested("state_dict", &entries)]);
        let numbers: Vec<f32> = (0..longest).map(|i| (i % 97) as f32 / 970.0).collect();
        let storage: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let path = folder.path().join("iter_80000.pth");
        let file = bytes::zip(&pickle, &storage, bytes::STORED);
        std::fs::write(&path, file).expect("a file");

        let loaded = load_segmentor(&path, &Default::default(), &device).expect("a segmentor");
        assert_eq!((&*loaded.info.model, &*loaded.info.method), ("biformer_pico", method));
        let weights = state_dict(&loaded.model, style);
        assert_eq!(weights.len(), keys.len());
        for (key, shape) in &keys {
            assert_eq!(weights[key].data, numbers[..numel(shape)], "{key}");
        }
    }
}

/// Files that do not say what they are, and other data than they were trained for.
#[test]
fn weights_tell_what_they_are() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    for method in METHOD_NAMES {
        let model = disturbed(config(method).init(&device));
        let style = model.backbone.key_style();
        let weights = state_dict(&model, style);
        let path = folder.path().join("weights.safetensors");
        write_safetensors(&path, &weights, &Default::default()).expect("a file");
        let loaded = load_segmentor(&path, &Default::default(), &device).expect("a segmentor");
        assert_eq!((&*loaded.info.model, &*loaded.info.method), ("biformer_pico", method));
        assert_eq!(loaded.info.classes, ["0", "1", "2", "3", "4"]);
        assert!(state_dict(&loaded.model, style) == weights, "{method}");

        let options = LoadDenseOptions { num_classes: Some(3), ..Default::default() };
        let loaded = load_segmentor(&path, &options, &device).expect("another last layer");
        assert_eq!((loaded.model.num_classes(), loaded.replaced_head), (3, Some(CLASSES)));
        let other = state_dict(&loaded.model, style);
        let same = weights.iter().filter(|(key, tensor)| other[*key] == **tensor).count();
        let last_layers = if method == "upernet" { 4 } else { 2 };
        assert_eq!(same, weights.len() - last_layers, "{method}");
    }
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("segmentor.safetensors");
    let model = config("semantic_fpn").init(&device);
    let weights = state_dict(&model, model.backbone.key_style());
    let error_of = |change: &dyn Fn(&mut StateDict)| {
        let mut weights = weights.clone();
        change(&mut weights);
        write_safetensors(&path, &weights, &Default::default()).expect("a file");
        let options =
            LoadDenseOptions { model: Some("biformer_pico".into()), ..Default::default() };
        load_segmentor(&path, &options, &device).expect_err("a wrong file").to_string()
    };
    let error = error_of(&|weights| {
        weights.remove("neck.fpn_convs.1.conv.bias");
        weights.insert("decode_head.extra".into(), StateTensor::new(vec![1], vec![0.0]));
    });
    for part in ["segmentor.safetensors", "neck.fpn_convs.1.conv.bias", "decode_head.extra"] {
        assert!(error.contains(part), "{error}");
    }
    let error = error_of(&|weights| {
        weights.retain(|key, _| key.starts_with("backbone."));
    });
    assert!(error.contains("no segmentor"), "{error}");
    // A shape without numbers says nothing of how much memory is fine.
    let error = error_of(&|weights| {
        let endless = StateTensor::new(vec![0, 1 << 40, 1, 1], Vec::new());
        weights.insert("decode_head.conv_seg.weight".into(), endless);
    });
    assert!(error.contains("decode_head.conv_seg.weight"), "{error}");
}

#[test]
fn a_backbone_begins_with_the_weights_of_a_classifier() {
    let device = Device::default();
    let config = ImageClassifierConfig {
        class_blocks: 1,
        aux_head: true,
        ..ImageClassifierConfig::new(BiFormerConfig::pico())
    };
    let classifier: ImageClassifier = config.init(&device);
    let style = config.backbone.key_style();
    let weights = state_dict(&classifier, style);
    let segmentor = super::config("upernet").init(&device);
    let before = state_dict(&segmentor.backbone, style);
    let found =
        segmentor.backbone.clone().with_classifier_weights(weights.clone()).expect("it fits");
    let after = state_dict(&found.backbone, style);
    assert_eq!(found.fresh.len(), 8, "{:?}", found.fresh);
    assert_eq!(found.loaded.len() + found.fresh.len(), after.len());
    assert_eq!(found.loaded.len() + found.left_out.len(), weights.len());
    assert!(found.loaded.iter().all(|key| after[key] == weights[key]));
    assert!(found.fresh.iter().all(|key| after[key] == before[key]));
    for key in ["head.weight", "norm.running_var", "aux_head.bias", "post_network.0.attn.q.weight"]
    {
        assert!(found.left_out.iter().any(|left_out| left_out == key), "{key}");
    }
    let mut wrong = weights;
    let removed = wrong.remove("stages.0.0.norm1.bias").expect("a bias");
    wrong.insert("stages.0.0.norm9.bias".into(), removed);
    let mismatch = segmentor.backbone.with_classifier_weights(wrong).expect_err("keys differ");
    assert_eq!(mismatch.missing, ["stages.0.0.norm1.bias"]);
    assert_eq!(mismatch.unexpected, ["stages.0.0.norm9.bias"]);
}

#[test]
#[should_panic(expected = "has given up its plain weights")]
fn a_neck_prepared_for_inference_cannot_be_saved() {
    let model = config("semantic_fpn").init(&Device::default());
    let style = model.backbone.key_style();
    state_dict(&model.neck.expect("a neck").for_inference(Precision::F32), style);
}
