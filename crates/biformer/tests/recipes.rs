//! Recipes: round trip, ranges, and text that is no recipe.

use std::fs;

use biformer::Error;
use biformer::data::{ErasingMode, MixupMode};
use biformer::train::{LrPolicy, Recipe, Task};
use proptest::prelude::*;

/// Every value that a file can hold differs from its default.
fn other_recipe() -> Recipe {
    Recipe {
        model: "biformer_tiny".to_owned(),
        data: Some("path/to \"pictures\"".into()),
        initial_checkpoint: Some("weights.pth".into()),
        img_size: 224,
        crop_pct: 0.875,
        epochs: 300,
        cooldown_epochs: 10,
        batch_size: 1024,
        grad_accum_steps: 8,
        seed: i64::MAX as u64,
        lr: 1e-3,
        lr_base_size: 1024,
        min_lr: 1e-6,
        warmup_lr: 1e-7,
        warmup_epochs: 5.0,
        sched_on_updates: false,
        weight_decay: 0.1,
        opt_betas: [0.8, 0.99],
        opt_eps: 1e-7,
        layer_decay: 0.75,
        clip_grad: 5.0,
        model_ema: true,
        model_ema_decay: 0.99996,
        model_ema_warmup: false,
        amp: true,
        sync_bn: true,
        drop_path: 0.15,
        smoothing: 0.2,
        scale: [0.08, 0.9],
        ratio: [0.5, 2.0],
        hflip: 0.25,
        aa: "rand-m9-mstd0.5-inc1".to_owned(),
        color_jitter: 0.4,
        reprob: 0.25,
        remode: ErasingMode::Rand,
        recount: 2,
        aug_repeats: 3,
        mixup: 0.8,
        cutmix: 1.0,
        mixup_prob: 0.9,
        mixup_switch_prob: 0.4,
        mixup_mode: MixupMode::Elem,
        mixup_off_epoch: 290,
        class_blocks: 2,
        dense_weight: 0.25,
        cls_weight: 0.75,
        mix_token: false,
        ..Recipe::default()
    }
}

/// What excludes Mixup.
fn token_recipe() -> Recipe {
    Recipe {
        mixup: 0.0,
        cutmix: 0.0,
        token_label: true,
        token_label_data: Some("path/to/maps".into()),
        ..other_recipe()
    }
}

/// The other task: every value of it differs from its default.
fn segment_recipe() -> Recipe {
    Recipe {
        task: Task::Segment,
        data: Some("path/to/scenes".into()),
        dataset: Some("ade20k".to_owned()),
        method: "upernet".to_owned(),
        neck_channels: 256,
        head_channels: 512,
        aux_channels: 256,
        crop_size: 512,
        img_scale: [2048, 512],
        ratio_range: [0.75, 1.25],
        cat_max_ratio: 1.0,
        photo_metric_distortion: false,
        size_divisor: 1,
        max_iters: 160_000,
        val_interval: 16_000,
        lr_policy: LrPolicy::Cosine,
        power: 0.9,
        warmup_iters: 1500,
        warmup_ratio: 1e-6,
        hflip: 0.25,
        ..Recipe::default()
    }
}

/// The third task, likewise.
fn detect_recipe() -> Recipe {
    Recipe {
        task: Task::Detect,
        data: Some("path/to/coco".into()),
        dataset: Some("path/to/dataset.toml".to_owned()),
        method: "retinanet".to_owned(),
        epochs: 36,
        neck_channels: 256,
        head_channels: 64,
        img_scale: [1333, 800],
        size_divisor: 64,
        warmup_iters: 500,
        warmup_ratio: 1e-6,
        lr_steps: vec![27, 33],
        multi_scale: true,
        stacked_convs: 2,
        norm_eval: false,
        hflip: 0.25,
        ..Recipe::default()
    }
}

fn text(recipe: &Recipe) -> String {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("recipe.toml");
    recipe.write(&path).expect("it can be written");
    assert_eq!(Recipe::read(&path).expect("it can be read").seed, recipe.seed);
    fs::read_to_string(path).expect("text")
}

#[test]
fn what_is_written_is_read() {
    let recipes = [
        Recipe::default(),
        other_recipe(),
        token_recipe(),
        Recipe::segmentation(),
        segment_recipe(),
        Recipe::detection(),
        Recipe::instance_segmentation(),
        detect_recipe(),
    ];
    for recipe in recipes {
        assert_eq!(Recipe::parse(&text(&recipe)).as_ref(), Ok(&recipe));
        recipe.check().expect("within the ranges");
    }
}

#[test]
fn missing_keys_take_the_defaults() {
    assert_eq!(Recipe::parse(""), Ok(Recipe::default()));
    let recipe = Recipe::parse("epochs = 3 # a comment\n").expect("a recipe");
    assert_eq!(recipe, Recipe { epochs: 3, ..Recipe::default() });
}

/// Each line alone is out of its range, and the message names the key, the value and the line.
#[test]
fn values_out_of_range_are_named() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (line, key) in [
        ("img_size = 31", "img_size"),
        ("img_size = 2049", "img_size"),
        ("crop_pct = 0.0", "crop_pct"),
        ("crop_pct = 1.01", "crop_pct"),
        ("epochs = 0", "epochs"),
        ("batch_size = 0", "batch_size"),
        ("batch_size = 65537", "batch_size"),
        ("lr = 0.0", "lr"),
        ("lr = nan", "lr"),
        ("lr = inf", "lr"),
        ("min_lr = 0.1", "min_lr"),
        ("min_lr = -0.1", "min_lr"),
        ("warmup_lr = 0.1", "warmup_lr"),
        ("warmup_epochs = 21.0", "warmup_epochs"),
        ("warmup_epochs = nan", "warmup_epochs"),
        ("weight_decay = -0.1", "weight_decay"),
        ("opt_betas = [0.9, 1.0]", "opt_betas"),
        ("opt_betas = [-0.1, 0.9]", "opt_betas"),
        ("opt_eps = 0.0", "opt_eps"),
        ("drop_path = 1.0", "drop_path"),
        ("smoothing = 1.0", "smoothing"),
        ("scale = [0.0, 1.0]", "scale"),
        ("scale = [0.5, 0.4]", "scale"),
        ("ratio = [0.5, 101.0]", "ratio"),
        ("hflip = 1.1", "hflip"),
        ("hflip = nan", "hflip"),
        ("cooldown_epochs = 100001", "cooldown_epochs"),
        ("grad_accum_steps = 0", "grad_accum_steps"),
        ("layer_decay = 0.0", "layer_decay"),
        ("clip_grad = -1.0", "clip_grad"),
        ("model_ema_decay = 1.0", "model_ema_decay"),
        ("color_jitter = 1.1", "color_jitter"),
        ("reprob = -0.1", "reprob"),
        ("recount = 0", "recount"),
        ("aug_repeats = 0", "aug_repeats"),
        ("mixup = -0.1", "mixup"),
        ("cutmix = 101.0", "cutmix"),
        ("aa = \"rand-x1\"", "aa"),
        ("mixup_prob = 1.1", "mixup_prob"),
        ("mixup_switch_prob = nan", "mixup_switch_prob"),
        ("class_blocks = 17", "class_blocks"),
        ("dense_weight = -0.1", "dense_weight"),
        ("cls_weight = 101.0", "cls_weight"),
        ("token_label_data = \"maps\"", "token_label_data"),
        ("model = \"biformer\"", "model"),
        ("method = \"upernet\"", "method"),
        ("max_iters = 10", "max_iters"),
        ("crop_size = 64", "crop_size"),
    ] {
        let recipe = Recipe::parse(line).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        match recipe.check() {
            Err(Error::Option { option, .. }) => assert_eq!(option, key, "`{line}`"),
            other => panic!("`{line}`: {other:?}"),
        }
        let path = folder.path().join("recipe.toml");
        fs::write(&path, format!("# A comment about {key} = 1\n{line}\n")).expect("a file");
        let message = Recipe::read(&path).expect_err(line).to_string();
        let value = line.split_once(" = ").expect("a value").1.trim_matches('"');
        for words in ["recipe.toml`: line 2, ", &format!("`{key}`: "), value] {
            assert!(message.contains(words), "`{line}`: no `{words}` in `{message}`");
        }
    }
}

/// As above, of a recipe for segmentation.
#[test]
fn values_of_segmentation_out_of_range_are_named() {
    for (line, key) in [
        ("method = \"deeplab\"", "method"),
        ("neck_channels = 0", "neck_channels"),
        ("head_channels = 4097", "head_channels"),
        ("aux_channels = 0", "aux_channels"),
        ("crop_size = 31", "crop_size"),
        ("img_scale = [0, 512]", "img_scale"),
        ("img_scale = [4096, 4096]", "img_scale"),
        ("ratio_range = [2.0, 0.5]", "ratio_range"),
        ("ratio_range = [nan, 1.0]", "ratio_range"),
        ("cat_max_ratio = 0.0", "cat_max_ratio"),
        ("size_divisor = 0", "size_divisor"),
        ("max_iters = 0", "max_iters"),
        ("max_iters = 300", "max_iters"),
        ("val_interval = 0", "val_interval"),
        ("power = -1.0", "power"),
        ("warmup_iters = 2001", "warmup_iters"),
        ("warmup_ratio = 1.1", "warmup_ratio"),
        // Of the other task.
        ("img_size = 224", "img_size"),
        ("epochs = 3", "epochs"),
        ("mixup = 0.8", "mixup"),
        ("token_label = true", "token_label"),
    ] {
        let text = format!("task = \"segment\"\n{line}");
        let recipe = Recipe::parse(&text).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        match recipe.check() {
            Err(Error::Option { option, reason }) => {
                assert_eq!(option, key, "`{line}`");
                let value = line.split_once(" = ").expect("a value").1.trim_matches('"');
                assert!(reason.contains(value), "`{line}`: no `{value}` in `{reason}`");
            }
            other => panic!("`{line}`: {other:?}"),
        }
    }
}

/// As above, of a recipe for detection.
#[test]
fn values_of_detection_out_of_range_are_named() {
    for (line, key) in [
        ("method = \"upernet\"", "method"),
        ("method = \"mask_rcnn\"", "method"),
        ("neck_channels = 0", "neck_channels"),
        ("head_channels = 4097", "head_channels"),
        ("stacked_convs = 17", "stacked_convs"),
        ("img_scale = [0, 512]", "img_scale"),
        ("img_scale = [4096, 4096]", "img_scale"),
        ("size_divisor = 16", "size_divisor"),
        ("epochs = 0", "epochs"),
        ("lr_steps = [11, 8]", "lr_steps"),
        ("warmup_ratio = -0.1", "warmup_ratio"),
        // Of the other tasks.
        ("img_size = 224", "img_size"),
        ("min_lr = 0.5", "min_lr"),
        ("mixup = 0.8", "mixup"),
        ("crop_size = 64", "crop_size"),
        ("max_iters = 10", "max_iters"),
    ] {
        let method = if line.starts_with("method") { "" } else { "method = \"retinanet\"\n" };
        let text = format!("task = \"detect\"\n{method}{line}");
        let recipe = Recipe::parse(&text).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        match recipe.check() {
            Err(Error::Option { option, reason }) => {
                assert_eq!(option, key, "`{line}`");
                let value = line.split_once(" = ").expect("a value").1.trim_matches('"');
                assert!(reason.contains(value), "`{line}`: no `{value}` in `{reason}`");
            }
            other => panic!("`{line}`: {other:?}"),
        }
    }
}

#[test]
fn the_rate_of_detection_falls_after_epochs() {
    let recipe = Recipe { lr: 1e-4, lr_steps: vec![8, 11], epochs: 12, ..detect_recipe() };
    assert_eq!(recipe.total_epochs(), 12);
    for (epoch, expected) in [(7, 1e-4), (8, 1e-5), (11, 1e-6)] {
        let found = recipe.lr_at(epoch, 0, 1000);
        assert!((found - expected).abs() < 1e-18, "{found} in epoch {epoch}");
    }
    let scaled = Recipe { lr_base_size: 16, ..recipe }.with_lr_for(4);
    assert!((scaled.lr_at(7, 0, 1000) - 2.5e-5).abs() < 1e-18);
    let scales: Vec<_> = scaled.detection_transform().img_scales;
    assert_eq!((scales.len(), scales[0], scales[10]), (11, [1333, 480], [1333, 800]));
}

#[test]
fn segmentation_counts_in_iterations() {
    let recipe =
        Recipe { lr: 6e-5, min_lr: 0.0, lr_policy: LrPolicy::Poly, power: 1.0, ..segment_recipe() };
    assert_eq!(recipe.total_epochs(), 10);
    let half = recipe.lr_at(5, 0, 16_000);
    assert!((half - 3e-5).abs() < 1e-15, "{half}");
    let first = recipe.lr_at(0, 0, 16_000);
    assert!((first - 6e-11).abs() < 1e-20, "{first}");
}

#[test]
fn token_labeling_takes_no_other_mixing_and_whole_tokens() {
    for (recipe, key) in [
        (Recipe { mixup: 0.1, ..token_recipe() }, "mixup"),
        (Recipe { cutmix: 1.0, ..token_recipe() }, "cutmix"),
        (Recipe { img_size: 240, ..token_recipe() }, "img_size"),
    ] {
        let message = recipe.check().expect_err(key).to_string();
        assert!(
            message.contains(&format!("`{key}`")) && message.contains("token_label"),
            "{message}"
        );
    }
}

#[test]
fn what_is_no_recipe_is_named_with_its_line() {
    for (text, words) in [
        ("epochs = 1\nepoch = 2\n", ["line 2", "unknown field `epoch`"]),
        ("epochs = 1\nepochs = 2\n", ["line 2", "duplicate key"]),
        ("epochs = -1\n", ["line 1", "epochs = -1"]),
        ("epochs = 1.5\n", ["line 1", "expected usize"]),
        ("scale = [0.1]\n", ["line 1", "two numbers"]),
        ("scale = [0.1, 0.2, 0.3]\n", ["line 1", "two numbers"]),
        ("[train]\nlr = 1.0\n", ["line 1", "unknown field `train`"]),
        ("lr = 1.0\nlr\n", ["line 2", "lr"]),
        ("model = \"bi", ["line 1", "model = "]),
        ("remode = \"all\"\n", ["line 1", "unknown variant `all`"]),
        ("mixup_mode = \"all\"\n", ["line 1", "unknown variant `all`"]),
    ] {
        let message = Recipe::parse(text).expect_err(text);
        for word in words {
            assert!(message.contains(word), "`{text}`: no `{word}` in `{message}`");
        }
    }
}

/// Some bytes of a recipe replaced by others, then cut.
fn damaged() -> impl Strategy<Value = String> {
    let whole = [Recipe::default(), other_recipe(), segment_recipe(), detect_recipe()];
    let whole = whole.map(|recipe| text(&recipe));
    let whole = prop::sample::select(whole.to_vec());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let end = prop_oneof![Just(None), any::<prop::sample::Index>().prop_map(Some)];
    (whole, changes, end).prop_map(|(whole, changes, end)| {
        let mut bytes = whole.into_bytes();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.map_or(bytes.len(), |end| end.index(bytes.len())));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A line of a recipe with some other value.
fn other_value() -> impl Strategy<Value = String> {
    let text =
        [token_recipe(), segment_recipe(), detect_recipe()].map(|recipe| text(&recipe)).concat();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let value = prop_oneof![
        any::<f64>().prop_map(|value| format!("{value:?}")),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<String>().prop_map(|value| format!("{value:?}")),
        any::<[f64; 2]>().prop_map(|value| format!("{value:?}")),
    ];
    (prop::sample::select(lines), value).prop_map(|(line, value)| {
        let key = line.split('=').next().expect("a key");
        format!("{key}= {value}\n")
    })
}

/// Whatever is read ends as an error or as a recipe that, if it is within the ranges, can be used.
fn read_and_use(text: &str) {
    let Ok(recipe) = Recipe::parse(text) else { return };
    if recipe.check().is_err() {
        return;
    }
    for (epoch, step) in [(0, 0), (recipe.epochs - 1, 9)] {
        let lr = recipe.lr_at(epoch, step, 10);
        assert!((0.0..=recipe.lr).contains(&lr), "learning rate {lr} of {recipe:?}");
    }
    let written = toml_of(&recipe);
    assert_eq!(Recipe::parse(&written).as_ref(), Ok(&recipe), "{written}");
}

fn toml_of(recipe: &Recipe) -> String {
    toml::to_string(recipe).expect("a recipe within the ranges is TOML")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_text_is_an_error_or_a_recipe(text in damaged()) {
        read_and_use(&text);
    }

    #[test]
    fn other_values_are_an_error_or_a_recipe(text in other_value()) {
        read_and_use(&text);
    }

    #[test]
    fn any_text_is_an_error_or_a_recipe(text in any::<String>()) {
        read_and_use(&text);
    }
}
