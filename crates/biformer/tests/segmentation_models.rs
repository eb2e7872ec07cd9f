//! Segmentors as wholes: the names and shapes of their weights, files, the start from a classifier, the
//! maps that they give, their losses and gradients.

#[allow(dead_code)] // other tests use the rest
mod checkpoint_bytes;

mod segmentation {
    use super::checkpoint_bytes as bytes;
    use biformer::Precision;
    use biformer::analysis::segmentor_costs;
    use biformer::classification::{ImageClassifier, ImageClassifierConfig};
    use biformer::data::segmentation::TestResize;
    use biformer::layers::{ChannelDropout, PatchEmbedKind};
    use biformer::models::{BiFormerConfig, MODEL_NAMES};
    use biformer::segmentation::*;
    use biformer::weights::{
        StateDict, StateTensor, keys_and_shapes, load_state_dict, state_dict, write_safetensors,
    };
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

    const CLASSES: usize = 5;

    /// Narrow heads on a backbone of one block a stage.
    fn config(method: &str) -> SegmentorConfig {
        let backbone = BiFormerConfig::pico();
        let mut config = SegmentorConfig::from_names("biformer_pico", method).expect("known names");
        config.num_classes = CLASSES;
        config.decode_head = match config.decode_head {
            DecodeHeadConfig::SemanticFpn(_) => DecodeHeadConfig::SemanticFpn(SemanticFpnConfig {
                pyramid_channels: 24,
                channels: 16,
            }),
            DecodeHeadConfig::Uper(..) => DecodeHeadConfig::Uper(
                UperHeadConfig { channels_in: backbone.embed_dims, channels: 20 },
                FcnHeadConfig { channels_in: backbone.embed_dims[2], channels: 12 },
            ),
        };
        config
    }

    fn info(method: &str) -> SegmentorInfo {
        let classes: Vec<_> = (0..CLASSES).map(|class| format!("thing {class}")).collect();
        SegmentorInfo {
            model: "biformer_pico".to_owned(),
            method: method.to_owned(),
            palette: vec![[1, 2, 3]; classes.len()],
            classes,
            resize: TestResize { img_scale: [64, 32], size_divisor: 16 },
        }
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data_as::<f32>().try_into_vec().expect("float32")
    }

    fn labels(classes: &[i64], shape: [usize; 3], device: &Device) -> Tensor<3, Int> {
        Tensor::from_data(TensorData::new(classes.to_vec(), shape), device)
    }

    /// Numbers in [−1, 1) without a pattern (splitmix64).
    fn number(seed: usize, i: usize) -> f32 {
        let mut z =
            ((seed as u64) << 32 | i as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Weights that keep the size of numbers, the same in each run and not those of the start, where norms
    /// are the identity.
    fn disturbed(model: Segmentor) -> Segmentor {
        let style = model.backbone.config.key_style();
        let mut weights = state_dict(&model, style);
        for (seed, (key, tensor)) in weights.iter_mut().enumerate() {
            let fan_in: usize = tensor.shape[1..].iter().product();
            let (scale, middle) = match tensor.shape.len() {
                1 if key.ends_with("weight") || key.contains("running_var") => (0.4, 1.0),
                1 => (0.2, 0.0),
                _ => ((3.0 / fan_in as f32).sqrt(), 0.0),
            };
            for (i, value) in tensor.data.iter_mut().enumerate() {
                *value = middle + scale * number(seed, i);
            }
        }
        load_state_dict(model, weights, style).expect("its own keys")
    }

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
            let stem = "backbone.downsample_layers.0.0.weight";
            let first = match backbone.patch_embed {
                PatchEmbedKind::NonOverlapped => [c2, 3, 4, 4],
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
        }
        SegmentorConfig::from_names("biformer_huge", "upernet").expect_err("no such model");
        let error =
            SegmentorConfig::from_names("biformer_tiny", "uper").expect_err("no such method");
        assert!(METHOD_NAMES.iter().all(|name| error.to_string().contains(name)), "{error}");
    }

    /// A quarter of the picture, rounded up, whatever the size; a sixteenth for the auxiliary head.
    #[test]
    fn logits_have_stride_4_at_any_size() {
        let device = Device::default();
        for method in METHOD_NAMES {
            let model = config(method).init(&device);
            for [height, width] in [[64usize, 64], [61, 130], [33, 32]] {
                let x = Tensor::random([2, 3, height, width], Distribution::Default, &device);
                let output = model.forward_train(x.clone());
                let size =
                    |stride: usize| [2, CLASSES, height.div_ceil(stride), width.div_ceil(stride)];
                assert_eq!(output.logits.dims(), size(4), "{method}");
                let auxiliary = output.auxiliary.map(|logits| logits.dims());
                assert_eq!(auxiliary, (method == "upernet").then(|| size(16)), "{method}");
                assert_eq!(values(model.forward(x)), values(output.logits), "{method}");
            }
        }
    }

    /// Counted twice: by the analysis, layer by layer, and by the weights that a file holds. Of the work of
    /// convolutions a number is known: that of UPerNet's last, 9 · 2048 · 512 at 128².
    #[test]
    fn the_analysis_sees_every_parameter() {
        for name in MODEL_NAMES {
            for method in METHOD_NAMES {
                let model = SegmentorConfig::from_names(name, method)
                    .expect("known")
                    .init(&Device::default());
                let keys = keys_and_shapes(&model, model.backbone.config.key_style());
                let trained = keys.iter().filter(|(key, _)| !key.contains("running_"));
                let in_file: usize =
                    trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
                let costs = segmentor_costs(&model, [512, 512]);
                let params = costs.iter().map(|cost| cost.params).sum::<usize>();
                assert_eq!(params, in_file, "{method} on {name}");
                let last = costs.iter().find(|cost| cost.name.contains("fpn_bottleneck.conv"));
                let expected = (method == "upernet").then_some(9 * 2048 * 512 * 128 * 128);
                assert_eq!(last.map(|cost| cost.macs), expected, "{method} on {name}");
            }
        }
    }

    #[test]
    fn a_segmentor_prepared_for_inference_gives_the_same_logits() {
        let device = Device::default();
        for method in METHOD_NAMES {
            let model = disturbed(config(method).init(&device));
            let x = Tensor::<4>::random([2, 3, 97, 64], Distribution::Default, &device);
            let expected = values(model.forward(x.clone()));
            let costs = segmentor_costs(&model, [97, 64]);
            let prepared = model.for_inference();
            assert!(prepared.auxiliary_head.is_none());
            assert!(costs.starts_with(&segmentor_costs(&prepared, [97, 64])), "{method}");
            assert_eq!(prepared.num_classes(), CLASSES);
            let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            for (found, expected) in values(prepared.forward(x)).iter().zip(&expected) {
                // Float32 sums of a thousand terms, one network behind the other.
                assert!((found - expected).abs() < 2e-5 * largest, "{method}: {found} {expected}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "has given up its plain weights")]
    fn a_neck_prepared_for_inference_cannot_be_saved() {
        let model = config("semantic_fpn").init(&Device::default());
        let style = model.backbone.config.key_style();
        state_dict(&model.neck.expect("a neck").for_inference(Precision::F32), style);
    }

    #[test]
    fn files_give_back_what_was_saved() {
        let device = Device::default();
        let folder = tempfile::tempdir().expect("a folder");
        for method in METHOD_NAMES {
            let path = folder.path().join(format!("{method}.safetensors"));
            let mut config = config(method);
            config.backbone.n_win = 4; // which weights cannot tell
            let model = disturbed(config.init(&device));
            save_segmentor(&path, &model, &info(method)).expect("a file");
            let loaded = load_segmentor(&path, &Default::default(), &device).expect("a segmentor");
            assert_eq!(loaded.model.backbone.config.n_win, 4);
            assert_eq!(loaded.info, info(method));
            assert_eq!(loaded.replaced_head, None);
            let style = model.backbone.config.key_style();
            assert!(state_dict(&loaded.model, style) == state_dict(&model, style), "{method}");
        }
    }

    /// As mmsegmentation writes them: a pickle of a dictionary with the weights under `state_dict`.
    #[test]
    fn checkpoints_of_mmsegmentation_are_read() {
        let device = Device::default();
        let folder = tempfile::tempdir().expect("a folder");
        for method in METHOD_NAMES {
            let model = config(method).init(&device);
            let style = model.backbone.config.key_style();
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
            let style = model.backbone.config.key_style();
            let weights = state_dict(&model, style);
            let path = folder.path().join("weights.safetensors");
            write_safetensors(&path, &weights, &Default::default()).expect("a file");
            let loaded = load_segmentor(&path, &Default::default(), &device).expect("a segmentor");
            assert_eq!((&*loaded.info.model, &*loaded.info.method), ("biformer_pico", method));
            assert_eq!(loaded.info.classes, ["0", "1", "2", "3", "4"]);
            assert!(state_dict(&loaded.model, style) == weights, "{method}");

            let options = LoadSegmentorOptions { num_classes: Some(3), ..Default::default() };
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
        let weights = state_dict(&model, model.backbone.config.key_style());
        let error_of = |change: &dyn Fn(&mut StateDict)| {
            let mut weights = weights.clone();
            change(&mut weights);
            write_safetensors(&path, &weights, &Default::default()).expect("a file");
            let options =
                LoadSegmentorOptions { model: Some("biformer_pico".into()), ..Default::default() };
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
        let segmentor = self::config("upernet").init(&device);
        let before = state_dict(&segmentor.backbone, style);
        let found =
            segmentor.backbone.clone().with_classifier_weights(weights.clone()).expect("it fits");
        let after = state_dict(&found.backbone, style);
        assert_eq!(found.fresh.len(), 8, "{:?}", found.fresh);
        assert_eq!(found.loaded.len() + found.fresh.len(), after.len());
        assert_eq!(found.loaded.len() + found.left_out.len(), weights.len());
        assert!(found.loaded.iter().all(|key| after[key] == weights[key]));
        assert!(found.fresh.iter().all(|key| after[key] == before[key]));
        for key in
            ["head.weight", "norm.running_var", "aux_head.bias", "post_network.0.attn.q.weight"]
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
    fn channels_are_dropped_in_training_alone() {
        let device = Device::default().autodiff();
        let (rate, pictures, channels) = (0.1, 40, 500);
        let dropout = ChannelDropout::new(rate);
        let x = Tensor::<4>::ones([pictures, 1, 2, channels], &device);
        let kept = (1.0 / (1.0 - rate)) as f32;
        let output = values(dropout.forward(x.clone()));
        let mut dropped = 0;
        for picture in output.chunks(2 * channels) {
            let (first, second) = picture.split_at(channels);
            assert_eq!(first, second, "a channel in two parts");
            assert!(first.iter().all(|x| *x == 0.0 || (x - kept).abs() < 3e-7));
            dropped += first.iter().filter(|x| **x == 0.0).count();
        }
        // Six standard deviations of a share, 6 · √(0.1 · 0.9 / 20000) = 0.0127.
        let share = dropped as f64 / (pictures * channels) as f64;
        assert!((share - rate).abs() < 0.0127, "share of dropped channels: {share}");
        assert_eq!(values(dropout.forward(x.clone().inner())), values(x));

        let model = config("semantic_fpn").init(&device);
        // Two masks of 8 × 16 channels are the same with probability 0.82¹²⁸.
        let x = Tensor::<4>::random([8, 3, 32, 32], Distribution::Default, &device);
        assert_ne!(values(model.forward(x.clone())), values(model.forward(x.clone())));
        let (model, x) = (model.valid(), x.inner());
        assert_eq!(values(model.forward(x.clone())), values(model.forward(x)));
    }

    /// Two pixels of two classes: p = 1 / (1 + e⁻¹) of the class that is ahead by 1.
    #[test]
    fn losses_count_labelled_pixels() {
        let device = Device::default().autodiff();
        let logits = || {
            let logits = [[[[1.0f32, 3.0]], [[0.0, -5.0]]]];
            Tensor::<4>::from_data(logits, &device).require_grad() // [1, 2, 1, 2]
        };
        let loss = (1.0 + (-1.0f64).exp()).ln() as f32;
        let one_ignored = labels(&[0, IGNORED], [1, 1, 2], &device);
        for (mean_over, expected) in
            [(MeanOver::AllPixels, loss / 2.0), (MeanOver::LabelledPixels, loss)]
        {
            let logits = logits();
            let found = pixel_cross_entropy(logits.clone(), one_ignored.clone(), mean_over);
            assert!((values(found.clone())[0] - expected).abs() < 1e-6, "{mean_over:?}");
            let gradient = values(logits.grad(&found.backward()).expect("a gradient"));
            assert!(gradient[0] < 0.0 && gradient[2] > 0.0, "{gradient:?}");
            assert_eq!((gradient[1], gradient[3]), (0.0, 0.0), "a pixel that does not count");
        }
        let accuracy = |classes: [i64; 2]| {
            values(pixel_accuracy(logits(), labels(&classes, [1, 1, 2], &device)))[0]
        };
        assert_eq!(accuracy([0, IGNORED]), 100.0);
        assert_eq!(accuracy([0, 1]), 50.0);
        assert_eq!(accuracy([IGNORED; 2]), 0.0);
        let none = labels(&[IGNORED; 2], [1, 1, 2], &device);
        for mean_over in [MeanOver::AllPixels, MeanOver::LabelledPixels] {
            assert_eq!(values(pixel_cross_entropy(logits(), none.clone(), mean_over)), [0.0]);
        }

        // The auxiliary head has other logits and the weight 0.4.
        let output = SegmentorOutput { logits: logits(), auxiliary: Some(logits() * 0.0) };
        let losses = segmentation_losses(output, one_ignored);
        let auxiliary = 0.4 * 2f32.ln() / 2.0;
        assert!((values(losses.decode_loss_ce)[0] - loss / 2.0).abs() < 1e-6);
        assert!((values(losses.aux_loss_ce.expect("a loss"))[0] - auxiliary).abs() < 1e-6);
        assert!((values(losses.loss)[0] - loss / 2.0 - auxiliary).abs() < 1e-6);
        assert_eq!(values(losses.decode_acc_seg), [100.0]);
    }

    /// Along its gradient g the loss rises by |g|, which central differences measure without knowing g.
    /// A float32 loss near 2 is exact to some 1e-7, and 2 · STEP · |g| is 1e-4 or more; kinks of ReLU add
    /// the rest.
    #[test]
    fn gradients_are_slopes() {
        // C5 has 3 × 3 tokens: the norm of fewer bends too much.
        const SIDE: usize = 96;
        const STEP: f32 = 0.005;
        let device = Device::default().autodiff();
        let classes: Vec<i64> =
            (0..2 * SIDE * SIDE).map(|i| [0, 1, 2, 3, 4, IGNORED][i / 50 % 6]).collect();
        let pixels = (0..2 * 3 * SIDE * SIDE).map(|i| 2.0 * number(999, i)).collect::<Vec<f32>>();
        let pixels = TensorData::new(pixels, [2, 3, SIDE, SIDE]);
        let x = Tensor::<4>::from_data(pixels, &device);
        for method in METHOD_NAMES {
            let model = without_dropout(disturbed(config(method).init(&device)));
            let style = model.backbone.config.key_style();
            let loss = |model: &Segmentor| {
                let labels = labels(&classes, [2, SIDE, SIDE], &device);
                segmentation_losses(model.forward_train(x.clone()), labels).loss
            };
            let gradients = loss(&model).backward();
            let mut gradients = Gradients { gradients, found: Vec::new() };
            model.clone().map(&mut gradients);
            let keys = keys_and_shapes(&model, style).into_iter().map(|(key, _)| key);
            let gradients: Vec<(String, Vec<f32>)> = keys.zip(gradients.found).collect();
            for part in ["backbone.extra_norms", "neck", "decode_head", "auxiliary_head"] {
                let of_part = || gradients.iter().filter(|(key, _)| key.starts_with(part));
                let squares =
                    of_part().flat_map(|(_, gradient)| gradient).map(|g| f64::from(*g).powi(2));
                let norm = squares.sum::<f64>().sqrt() as f32;
                let exists = match part {
                    "neck" => method == "semantic_fpn",
                    "auxiliary_head" => method == "upernet",
                    _ => true,
                };
                assert_eq!(norm > 1e-3, exists, "{method}: a gradient of {norm} of {part}");
                if !exists {
                    continue;
                }
                let loss_at = |step: f32| {
                    let mut weights = state_dict(&model, style);
                    for (key, gradient) in of_part() {
                        let tensor = weights.get_mut(key).expect("a weight");
                        let moved = tensor.data.iter_mut().zip(gradient);
                        moved.for_each(|(weight, g)| *weight += step * g / norm);
                    }
                    let model = load_state_dict(model.clone(), weights, style).expect("its keys");
                    values(loss(&model))[0]
                };
                let slope = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
                let error = (slope / norm - 1.0).abs();
                assert!(
                    error < 0.02,
                    "{method}: {part} has a slope of {slope}, a gradient of {norm}"
                );
            }
        }
    }

    fn without_dropout(mut model: Segmentor) -> Segmentor {
        match &mut model.decode_head {
            DecodeHead::SemanticFpn(head) => head.conv_seg.dropout = ChannelDropout::new(0.0),
            DecodeHead::Uper(head) => head.conv_seg.dropout = ChannelDropout::new(0.0),
        }
        if let Some(head) = &mut model.auxiliary_head {
            head.conv_seg.dropout = ChannelDropout::new(0.0);
        }
        model
    }

    /// The gradients of a module, in the order of its weights; zeros where there is none.
    struct Gradients {
        gradients: burn::tensor::Gradients,
        found: Vec<Vec<f32>>,
    }

    impl ModuleMapper for Gradients {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let gradient = param.val().grad(&self.gradients);
            let gradient = gradient.unwrap_or_else(|| param.val().inner().zeros_like());
            self.found.push(values(gradient));
            param
        }
    }
}
