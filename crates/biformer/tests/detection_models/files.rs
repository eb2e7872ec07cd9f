//! Names and shapes of weights, and files.

use biformer::classification::{ClassifierInfo, ImageClassifierConfig, save_classifier};
use biformer::data::EvalTransform;
use biformer::detection::*;
use biformer::models::{BiFormerConfig, MODEL_NAMES};
use biformer::segmentation::{SegmentorConfig, is_segmentor, load_segmentor};
use biformer::weights::{keys_and_shapes, state_dict, write_safetensors};
use burn::tensor::Device;

use super::{CLASSES, config, disturbed, info};

/// Names of mmdetection with the sizes of Table 3, on every backbone.
#[test]
fn keys_are_those_of_mmdetection() {
    for name in MODEL_NAMES {
        let config = DetectorConfig::from_names(name, "retinanet").expect("known names");
        assert_eq!((config.backbone.n_win, config.num_classes), (16, 80));
        let keys = keys_and_shapes(&config.init(&Device::default()), config.backbone.key_style());
        let [_, c3, _, c5] = config.backbone.embed_dims;
        let expected: [(&str, &[usize]); 10] = [
            ("backbone.extra_norms.3.weight", &[c5]),
            ("neck.lateral_convs.0.conv.weight", &[256, c3, 1, 1]),
            ("neck.fpn_convs.2.conv.bias", &[256]),
            ("neck.fpn_convs.3.conv.weight", &[256, c5, 3, 3]),
            ("neck.fpn_convs.4.conv.weight", &[256, 256, 3, 3]),
            ("bbox_head.cls_convs.0.conv.weight", &[256, 256, 3, 3]),
            ("bbox_head.reg_convs.3.conv.bias", &[256]),
            ("bbox_head.retina_cls.weight", &[720, 256, 3, 3]),
            ("bbox_head.retina_cls.bias", &[720]),
            ("bbox_head.retina_reg.weight", &[36, 256, 3, 3]),
        ];
        for (key, shape) in expected {
            assert!(keys.contains(&(key.to_owned(), shape.to_vec())), "{name}: no {key} {shape:?}");
        }
        // 3 laterals, 5 convolutions of the pyramid, 4 + 4 + 2 of the head, each with a bias.
        let others = keys.iter().filter(|(key, _)| !key.starts_with("backbone.")).count();
        assert_eq!(others, 18 * 2, "{name}");
    }
    DetectorConfig::from_names("biformer_huge", "retinanet").expect_err("no such model");
    let error = DetectorConfig::from_names("biformer_tiny", "yolo").expect_err("no such method");
    assert!(METHOD_NAMES.iter().all(|name| error.to_string().contains(name)), "{error}");
}

#[test]
fn files_give_back_what_was_saved() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("detector.safetensors");
    let mut config = config();
    config.backbone.n_win = 4; // which weights cannot tell
    let model = disturbed(config.init(&device));
    save_detector(&path, &model, &info()).expect("a file");
    assert!(is_detector(&path) && !is_segmentor(&path));
    let loaded = load_detector(&path, &Default::default(), &device).expect("a detector");
    assert_eq!(loaded.model.backbone.config.n_win, 4);
    assert_eq!((loaded.info, loaded.replaced_head), (info(), None));
    assert_eq!(loaded.config.heads, config.heads);
    let style = model.backbone.config.key_style();
    assert!(state_dict(&loaded.model, style) == state_dict(&model, style));
}

/// Files that do not say what they are, and other data than they were trained for.
#[test]
fn weights_tell_what_they_are() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    let model = disturbed(config().init(&device));
    let style = model.backbone.config.key_style();
    let weights = state_dict(&model, style);
    write_safetensors(&path, &weights, &Default::default()).expect("a file");
    assert!(is_detector(&path) && !is_segmentor(&path));
    let loaded = load_detector(&path, &Default::default(), &device).expect("a detector");
    assert_eq!((&*loaded.info.model, &*loaded.info.method), ("biformer_pico", "retinanet"));
    assert_eq!(loaded.info.classes, ["0", "1", "2", "3", "4"]);
    assert_eq!(loaded.info.resize.img_scale, [1333, 800]);
    assert_eq!(loaded.config.heads, config().heads);

    let options = LoadDenseOptions { num_classes: Some(3), ..Default::default() };
    let loaded = load_detector(&path, &options, &device).expect("another last layer");
    assert_eq!((loaded.model.num_classes(), loaded.replaced_head), (3, Some(CLASSES)));
    let other = state_dict(&loaded.model, style);
    let same = weights.iter().filter(|(key, tensor)| other[*key] == **tensor).count();
    assert_eq!(same, weights.len() - 2, "weight and bias of the classes are fresh");
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let device = Device::default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.safetensors");
    let refused = |path: &std::path::Path, words: &[&str]| {
        let error = load_detector(path, &Default::default(), &device).expect_err("no detector");
        let error = error.to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let classifier = ImageClassifierConfig::new(BiFormerConfig::pico()).with_num_classes(2);
    let about = ClassifierInfo {
        model: "biformer_pico".to_owned(),
        classes: vec!["a".to_owned(), "b".to_owned()],
        transform: EvalTransform::new(64),
    };
    save_classifier(&path, &classifier.init(&device), &about).expect("a file");
    assert!(!is_detector(&path));
    refused(&path, &["holds no detector", "bbox_head.retina_cls.weight", "retinanet"]);

    let model = config().init(&device);
    let style = model.backbone.config.key_style();
    let write = |change: &dyn Fn(&mut biformer::weights::StateDict)| {
        let mut weights = state_dict(&model, style);
        change(&mut weights);
        write_safetensors(&path, &weights, &Default::default()).expect("a file");
    };
    write(&|weights| {
        weights.remove("bbox_head.retina_reg.bias");
    });
    refused(&path, &["does not fit retinanet on biformer_pico", "bbox_head.retina_reg.bias"]);
    write(&|weights| {
        let head = weights.get_mut("bbox_head.retina_cls.weight").expect("a weight");
        head.shape[0] -= 1;
        head.data.truncate(head.shape.iter().product());
    });
    refused(&path, &["has 44 logits a token"]);
    write(&|weights| {
        weights.remove("backbone.extra_norms.0.bias");
    });
    refused(&path, &["the backbone is that of no model known here"]);

    let metadata = [("img_scale".to_owned(), "[0, 800]".to_owned())].into();
    write_safetensors(&path, &state_dict(&model, style), &metadata).expect("a file");
    refused(&path, &["no size of pictures"]);
    write(&|_| {});
    let error = load_segmentor(&path, &Default::default(), &device).expect_err("no segmentor");
    assert!(error.to_string().contains("holds no segmentor"), "{error}");
    let segmentor = SegmentorConfig::from_names("biformer_pico", "semantic_fpn").expect("names");
    let weights = state_dict(&segmentor.init(&device), style);
    write_safetensors(&path, &weights, &Default::default()).expect("a file");
    assert!(!is_detector(&path) && is_segmentor(&path));
}
