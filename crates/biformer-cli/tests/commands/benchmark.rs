//! `benchmark`: what it reports is plausible, what cannot be measured is refused. No times are
//! asserted: the machine may be busy.

use std::fs;

use serde_json::Value;

use super::{Ended, Folder, Watched, assert_keys, names};

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
fn throughput_of_models_side_by_side() {
    let folder = Folder::empty();
    let flags = "--bench throughput --model biformer_nano biformer_pico --img-size 64 --runs 1";
    let ended = folder.run(&format!("benchmark {flags} --warmup 0 --output figure")).expect_code(0);
    let json = ended.json();
    let results = json["results"].as_array().expect("results");
    // Where the processor has no bfloat16, float32 alone.
    let is_mixed = !ended.stderr.contains("mixed precision is left out");
    assert_eq!(results.len(), if is_mixed { 8 } else { 4 }, "{json}");
    for result in results {
        assert!(result["images_per_second"].as_f64().expect("a number") > 0.0, "{result}");
    }
    let panels: Vec<_> = results.iter().map(|row| (&row["bench"], &row["precision"])).collect();
    assert_eq!(panels[0], (&"train".into(), &"f32".into()));
    assert_eq!(panels[results.len() - 1].0, "inference");
    assert_eq!(
        names(&folder.path("figure")),
        ["throughput.csv", "throughput.json", "throughput.png"]
    );
    let refused = "benchmark --bench throughput --compare before.json";
    folder.fails(refused, 2, &["compare", "throughput"]);
    folder.fails("benchmark --bench throughput --precision bf16", 2, &["precision", "throughput"]);
}

#[test]
fn one_operator() {
    let flags = "benchmark --bench operator --operator bra --img-size 25x42 --n-win 4 --runs 2";
    let json = Folder::empty().run(flags).expect_code(0).json();
    assert_plausible(&json, 1.0);
    assert_eq!((&json["model"], &json["img_size"]), (&"bra".into(), &"25x42".into()));
}

#[test]
fn full_attention_as_an_operator() {
    let flags = "benchmark --bench operator --operator full --img-size 8 --dim 32 --runs 2";
    let json = Folder::empty().run(flags).expect_code(0).json();
    assert_plausible(&json, 1.0);
    assert_eq!((&json["model"], &json["dim"]), (&"full".into(), &32.into()));
}

/// 96 × 160 pixels are 2 × 3 windows of 64, each a stride of 48 after the one before.
#[test]
fn a_segmentor_sees_a_picture_whole_or_in_windows() {
    let folder = Folder::empty();
    let flags = "benchmark --model biformer_pico --method semantic_fpn --runs 1 --warmup 0";
    let run = |more: &str| {
        let ended = folder.run(&format!("{flags} {more}")).expect_code(0);
        assert_plausible(&ended.json(), 1.0);
        assert_eq!(ended.json()["method"], "semantic_fpn");
        ended
    };
    let gmacs = |ended: &Ended| ended.json()["gmacs"].as_f64().expect("a number");
    let whole = run("--img-size 64 --output out");
    assert!(whole.stderr.contains("biformer_pico, inference of semantic_fpn, batch 1, 64 × 64"));
    assert!(whole.json()["crop_size"].is_null());
    let slide = "--mode slide --crop-size 64 --stride 48 --img-size 96x160";
    let windows = run(&format!("{slide} --compare out/benchmark.json"));
    assert!((gmacs(&windows) - 6.0 * gmacs(&whole)).abs() < 1e-9, "{}", windows.stdout);
    let json = windows.json();
    assert_eq!((&json["crop_size"], &json["stride"]), (&64.into(), &48.into()));
    for words in [
        "inference of semantic_fpn, windows of 64 every 48, batch 1, 96 × 160",
        "only measured now: inference semantic_fpn on biformer_pico, batch 1, 96x160",
        "windows of 64, every 48",
        "only in the file: inference semantic_fpn on biformer_pico, batch 1, 64,",
    ] {
        assert!(windows.stderr.contains(words), "no `{words}` in:\n{}", windows.stderr);
    }
}

#[test]
fn every_combination_has_its_result() {
    let folder = Folder::empty();
    let flags =
        "--model biformer_nano biformer_pico --batch-size 1 2 --img-size 32 64x32 --output out";
    let few = "--num-bench-iter 1 --num-warm-iter 0 --threads 1";
    let ended = folder.run(&format!("benchmark {flags} {few}")).expect_code(0);
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    let json = ended.json();
    let results = json["results"].as_array().expect("results");
    let named = |result: &Value| {
        format!("{} {} {}", result["model"], result["img_size"], result["batch_size"])
    };
    let expected = ["nano", "pico"].into_iter().flat_map(|model| {
        ["32 1", "32 2", "\"64x32\" 1", "\"64x32\" 2"]
            .map(|case| format!("\"biformer_{model}\" {case}"))
    });
    assert_eq!(results.iter().map(named).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    for result in results {
        assert_keys(result, &["median_ms", "p99_ms", "param_count", "gmacs", "peak_fraction"]);
    }
    assert_eq!(ended.stderr.matches("64 × 32").count(), 4, "{}", ended.stderr);
    // The same in files.
    let written = fs::read_to_string(folder.path("out/benchmark.json")).expect("JSON");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), json);
    let mut csv = csv::Reader::from_path(folder.path("out/benchmark.csv")).expect("CSV");
    let header = csv.headers().expect("a header").clone();
    let column = header.iter().position(|name| name == "median_ms").expect("a column");
    for (row, result) in csv.records().map(|row| row.expect("a row")).zip(results) {
        assert_close(row[column].parse().expect("a number"), &result["median_ms"]);
    }
    assert_eq!(names(&folder.path("out")), ["benchmark.csv", "benchmark.json"]);
}

#[test]
fn a_detail_names_the_classes_of_operators() {
    let folder = Folder::empty();
    let ended = folder.run(&format!("{NANO} --detail --output out")).expect_code(0);
    let json = ended.json();
    assert_plausible(&json, 1.0);
    let detail = json["detail"].as_array().expect("a detail");
    let of = |class: &str| {
        let mut rows = detail.iter().filter(|row| row["operator"] == class);
        rows.next().unwrap_or_else(|| panic!("no `{class}` in {json}"))
    };
    for class in ["linear", "convolution", "routed attention", "global attention", "routing"] {
        let number = |key: &str| of(class)[key].as_f64().unwrap_or_else(|| panic!("{key}: {json}"));
        let [gflops, gbytes] = ["gflops", "gbytes_per_second"].map(number);
        assert!((gflops / gbytes - number("flop_per_byte")).abs() < 1e-9 * gflops / gbytes);
        let [peak, bandwidth] =
            ["peak_gflops", "peak_gbytes_per_second"].map(|key| json[key].as_f64().expect(key));
        let bound = gflops / f64::min(peak, bandwidth * number("flop_per_byte"));
        assert!((bound - number("bound_fraction")).abs() < 1e-9 * bound, "{class}: {json}");
        let line = ended.stderr.lines().find(|line| line.starts_with(class)).expect(class);
        assert_eq!(line.matches('%').count(), 2, "{line}");
    }
    let shares: f64 = detail.iter().filter_map(|row| row["share"].as_f64()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    // Blocks of nano: five route, one attends to all tokens.
    assert_eq!(
        (&of("routed attention")["calls"], &of("global attention")["calls"]),
        (&5.into(), &1.into())
    );
    assert!(of("other")["gflops"].is_null());
    let written = ["benchmark.csv", "benchmark.json", "roofline.csv", "roofline.png"];
    assert_eq!(names(&folder.path("out")), written);
    let picture = image::open(folder.path("out/roofline.png")).expect("a picture");
    assert!(picture.width() > 400 && picture.height() > 300);
}

#[test]
fn profile_is_another_name_of_detail() {
    let flags = "--bench operator --img-size 8 --n-win 2 --runs 1 --profile";
    let json = Folder::empty().run(&format!("benchmark {flags}")).expect_code(0).json();
    assert!(json["detail"].is_array(), "{json}");
}

#[test]
fn before_and_after() {
    let folder = Folder::empty();
    let few = "benchmark --model biformer_pico --img-size 32 --runs 1 --warmup 0 --threads 1";
    let first = folder.run(&format!("{few} --batch-size 1 2")).expect_code(0);
    folder.write("old.json", &first.stdout);
    let second = folder.run(&format!("{few} --batch-size 2 3 --compare old.json")).expect_code(0);
    let (before, json) = (first.json(), second.json());
    let compared = &json["compare"];
    let cases = compared["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 1, "{compared}");
    let ms = |key: &str| cases[0][key].as_f64().expect(key);
    assert_close(ms("before_ms"), &before["results"][1]["median_ms"]);
    assert_close(ms("after_ms"), &json["results"][0]["median_ms"]);
    for (key, words) in [("only_now", "batch 3"), ("only_before", "batch 1")] {
        assert!(compared[key][0].as_str().expect(key).contains(words), "{compared}");
        assert!(second.stderr.contains(words), "{}", second.stderr);
    }
    // One case alone keeps its fields, and what an older version wrote is enough to match it.
    let mut older = before["results"][0].clone();
    for key in ["device", "p99_ms", "gbytes_per_second"] {
        older.as_object_mut().expect("an object").remove(key);
    }
    folder.write("older.json", older.to_string());
    let alone = folder.run(&format!("{few} --compare older.json")).expect_code(0).json();
    assert_plausible(&alone, 1.0);
    let before_ms = alone["compare"]["cases"][0]["before_ms"].as_f64().expect("a partner");
    assert_close(before_ms, &older["median_ms"]);
}

#[test]
fn a_file_to_compare_with_must_hold_results() {
    let folder = Folder::empty();
    folder.write("log.txt", "done\n");
    folder.write("cut.json", r#"{"results": [{"bench": "inference", "median_ms": 3.5}]}"#);
    folder.fails("benchmark --compare none.json", 1, &["none.json", "cannot read"]);
    folder.fails("benchmark --compare log.txt", 2, &["`log.txt`: line 1", "no JSON"]);
    let words = ["`cut.json`: result 1", "key `model` is missing"];
    folder.fails("benchmark --compare cut.json", 2, &words);
}

/// Tokens of the smallest pictures: enough for both attentions to be fitted, without the large
/// ones that take seconds.
#[test]
fn growth_of_both_attentions() {
    let folder = Folder::empty();
    let flags = "--bench growth --img-size 64 32 96 --runs 1 --warmup 0 --threads 1 --output out";
    let ended = folder.run(&format!("benchmark {flags}")).expect_code(0);
    let json = ended.json();
    let results = json["results"].as_array().expect("results");
    let column = |key: &str| results.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(column("tokens"), [64, 256, 576, 64, 256, 576].map(Value::from));
    assert_eq!(column("attention"), ["bra", "bra", "bra", "full", "full", "full"].map(Value::from));
    assert!(column("times").iter().all(|times| times == "measured"), "{json}");
    for attention in ["bra", "full"] {
        let exponents = &json["exponents"][attention];
        assert_keys(exponents, &["ms", "core_ms"]);
        assert_eq!(exponents["tokens"], serde_json::json!([64, 576]));
        assert!(ended.stderr.contains(&format!("{attention}: time ~ tokens^")), "{}", ended.stderr);
    }
    let counted = json["exponents"]["full"]["core_macs"].as_f64().expect("an exponent");
    assert!((counted - 2.0).abs() < 1e-9, "{counted}");
    assert_eq!(names(&folder.path("out")), ["growth.csv", "growth.json", "growth.png"]);
}

/// On one thread, full attention at 544 pixels would take a second a run.
#[test]
fn growth_says_what_is_extrapolated() {
    let folder = Folder::empty();
    let flags = "--bench growth --img-size 32 64 544 --runs 1 --warmup 0 --output out";
    let ended = folder.run(&format!("benchmark {flags}")).expect_code(0);
    let csv = fs::read_to_string(folder.path("out/growth.csv")).expect("CSV");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 7, "{csv}");
    let is_extrapolated = |line: &&&str| line.contains("extrapolated");
    let extrapolated: Vec<_> = lines.iter().filter(is_extrapolated).collect();
    assert_eq!(extrapolated, [lines.last().expect("lines")]);
    assert!(lines[6].starts_with("full,544,18496,,extrapolated,"), "{csv}");
    let last = ended.stderr.lines().find(|line| line.starts_with("full ") && line.contains("544"));
    assert!(last.expect("a line").ends_with("extrapolated"), "{}", ended.stderr);
}

#[test]
fn growth_can_be_interrupted() {
    let folder = Folder::empty();
    let flags = "benchmark --bench growth --img-size 512 1024 256 --runs 100000 --output out";
    let ended = Watched::start(folder.command(flags)).wait_for("attention ").signal("-INT").end();
    let ended = ended.expect_code(130);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
    assert!(names(&folder.path("out")).is_empty());
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
        ("--model biformer_nano biformer_huge", ["biformer_huge", "biformer_tiny"]),
        ("--img-size 64 16", ["img_size", "got 16x16"]),
        ("--batch-size", ["--batch-size", "value"]),
        ("--data pictures", ["data", "needs --bench loader"]),
        ("--bench loader", ["data", "needs the data set"]),
        ("--bench loader --data . --detail", ["detail", "no meaning with --bench loader"]),
        ("--bench growth --model biformer_tiny", ["model", "no meaning with --bench growth"]),
        ("--bench growth --operator bra", ["operator", "no meaning with --bench growth"]),
        ("--bench growth --batch-size 1 2", ["batch_size", "takes one"]),
        ("--bench growth --img-size 64", ["img_size", "two sizes"]),
        ("--bench growth --img-size 64 1024", ["img_size", "small enough to measure full"]),
        ("--bench growth --img-size 64x128 128x64", ["img_size", "512 tokens"]),
        ("--bench growth --img-size 64 4096", ["img_size", "got 4096x4096"]),
        ("--bench growth --num-heads 3 --img-size 32 64", ["num_heads", "a divisor of 64, got 3"]),
        ("--method deeplab", ["deeplab", "semantic_fpn, upernet, linear"]),
        ("--method linear --model resnet50", ["resnet50", "biformer_tiny"]),
        ("--method linear --batch-size 2", ["batch_size", "one picture at a time, got 2"]),
        ("--method linear --img-size 2048x2056", ["img_size", "slide a window"]),
        ("--method linear --img-size 16", ["img_size", "got 16x16"]),
        ("--method linear --stride 9", ["stride", "needs --mode slide"]),
        ("--method linear --mode slide --stride 999", ["stride", "1 to the crop size 512"]),
        ("--mode slide", ["mode", "needs --method"]),
        ("--bench train --method linear", ["method", "no meaning with --bench train"]),
        ("--bench operator --operator full --topk 2", ["operator", "no regions"]),
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

/// `serde_json` reads the last digit of a number quickly, not exactly.
fn assert_close(found: f64, expected: &Value) {
    let expected = expected.as_f64().expect("a number");
    assert!((found - expected).abs() < 1e-12 * expected, "{found}, expected {expected}");
}

fn assert_plausible(json: &Value, batch_size: f64) {
    let keys = ["instruction_set", "device", "images_per_second", "gflops", "samples_per_sec"];
    assert_keys(json, &keys);
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("no `{key}` in {json}"));
    assert_eq!(number("batch_size"), batch_size);
    let [min, median, p90, p99] = ["min_ms", "median_ms", "p90_ms", "p99_ms"].map(number);
    assert!(0.0 < min && min <= median && median <= p90 && p90 <= p99, "{json}");
    assert!(min <= number("step_time"), "{json}");
    assert!(number("gbytes_per_second") > 0.0 && number("peak_gbytes_per_second") > 0.0, "{json}");
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
