//! `benchmark`: what it reports is plausible, what cannot be measured is refused. No times are
//! asserted: the machine may be busy.

use serde_json::Value;

use super::{Folder, assert_keys};

/// Few runs; they go on for a second.
const NANO: &str = "benchmark --model biformer_nano --img-size 64 --runs 2 --warmup 1";

#[test]
fn inference_of_a_batch() {
    let ended = Folder::empty().run(&format!("{NANO} --batch-size 3 --threads 2")).expect_code(0);
    let json = ended.json();
    assert_plausible(&json, 3.0);
    assert_eq!(json["bench"], "inference");
    assert_eq!(json["model"], "biformer_nano");
    assert_eq!((&json["img_size"], &json["threads"]), (&64.into(), &2.into()));
    assert_eq!(json["precision"], "f32");
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    for words in
        ["biformer_nano, inference, batch 3, 64 × 64, 2 threads, f32", "median", "images/s"]
    {
        assert!(ended.stderr.contains(words), "no `{words}` in:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("calls"), "a profile that nobody asked for:\n{}", ended.stderr);
}

#[test]
fn training_steps_of_oblong_pictures() {
    let flags = "benchmark --bench train --model biformer_nano --imgsz 32x64 --batch 2 --runs 2";
    let json = Folder::empty().run(&format!("{flags} --threads 1")).expect_code(0).json();
    assert_plausible(&json, 2.0);
    assert_eq!((&json["bench"], &json["img_size"]), (&"train".into(), &"32x64".into()));
}

#[test]
fn one_operator() {
    let flags = "benchmark --bench operator --operator bra --img-size 25x42 --n-win 4 --runs 2";
    let json = Folder::empty().run(flags).expect_code(0).json();
    assert_plausible(&json, 1.0);
    assert_eq!((&json["model"], &json["img_size"]), (&"bra".into(), &"25x42".into()));
}

#[test]
fn a_profile_names_the_classes_of_operators() {
    let ended = Folder::empty().run(&format!("{NANO} --profile")).expect_code(0);
    let classes = [
        "linear",
        "convolution",
        "depthwise convolution",
        "routed attention",
        "global attention",
        "routing",
        "other",
    ];
    for class in classes {
        let mut rows = ended.stderr.lines().filter(|line| line.starts_with(class));
        let row = rows.next().unwrap_or_else(|| panic!("no `{class}` in:\n{}", ended.stderr));
        assert!(row.contains('%'), "{row}");
    }
    // Blocks of nano: five route, one attends to all tokens.
    let calls = |class: &str| {
        let line = ended.stderr.lines().find_map(|line| line.strip_prefix(class));
        line.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    };
    assert_eq!(calls("routed attention").as_deref(), Some("5"));
    assert_eq!(calls("global attention").as_deref(), Some("1"));
}

#[test]
fn what_cannot_be_measured() {
    let folder = Folder::empty();
    for (flags, words) in [
        ("--model biformer_huge", ["biformer_huge", "biformer_tiny"]),
        ("--img-size 0", ["img_size", "got 0x0"]),
        ("--img-size 224x16", ["img_size", "32 to 2048 pixels, got 224x16"]),
        ("--img-size 4096", ["img_size", "got 4096x4096"]),
        ("--img-size 224x", ["--img-size", "224 or 200x336"]),
        ("--img-size large", ["--img-size", "224 or 200x336"]),
        ("--batch-size 0", ["batch_size", "got 0"]),
        ("--threads 0", ["threads", "1 to 1024, got 0"]),
        ("--runs 0", ["runs", "got 0"]),
        ("--precision f64", ["f64", "possible values: f32, bf16"]),
        ("--bench speed", ["speed", "possible values: inference, train, operator"]),
        ("--device tpu", ["tpu", "cpu"]),
        ("--dim 32", ["--dim", "need --bench operator"]),
        ("--bench train --img-size 8", ["img_size", "got 8x8"]),
        ("--bench operator --operator conv", ["conv", "possible values: bra"]),
        ("--bench operator --model biformer_tiny", ["model", "no meaning with --bench operator"]),
        ("--bench operator --img-size 0x9", ["img_size", "got 0x9"]),
        ("--bench operator --dim 0", ["dim", "got 0"]),
        ("--bench operator --num-heads 3", ["num_heads", "a divisor of 64, got 3"]),
        ("--bench operator --num-heads 0", ["num_heads", "got 0"]),
        ("--bench operator --n-win 0", ["n_win", "got 0"]),
        ("--bench operator --topk 0", ["topk", "got 0"]),
    ] {
        folder.fails(&format!("benchmark {flags}"), 2, &words);
    }
}

fn assert_plausible(json: &Value, batch_size: f64) {
    let keys = ["instruction_set", "median_ms", "p90_ms", "images_per_second", "gflops"];
    assert_keys(json, &keys);
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("no `{key}` in {json}"));
    assert_eq!(number("batch_size"), batch_size);
    let [median, p90] = ["median_ms", "p90_ms"].map(number);
    assert!(0.0 < median && median <= p90, "{json}");
    let images = number("images_per_second") * median / 1e3;
    assert!((images - batch_size).abs() < 1e-6, "{json}");
    assert!(number("gflops") > 0.0, "{json}");
    // The peak is itself measured, on a machine that others use as well.
    let fraction = number("peak_fraction");
    assert!(0.0 < fraction && fraction <= 1.2, "{json}");
    match cfg!(target_os = "linux") {
        true => assert!(number("peak_rss_mb") > 1.0, "{json}"),
        false => assert!(json["peak_rss_mb"].is_null(), "{json}"),
    }
}
