//! `predict`: from where pictures come, how results look, and that they agree with `eval`.

use std::fs;

use serde_json::Value;

use super::{Ended, Folder};

const PREDICT: &str = "predict --checkpoint run/last.safetensors";

fn entries(ended: &Ended) -> Vec<Value> {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}:\n{}", ended.stdout))
}

/// Files of the entries, and their best class.
fn best(entries: &[Value]) -> Vec<(&str, &str)> {
    entries
        .iter()
        .map(|entry| {
            let class = entry["predictions"][0]["class"].as_str().expect("a class");
            (entry["file"].as_str().expect("a file"), class)
        })
        .collect()
}

#[test]
fn predict_agrees_with_eval() {
    let folder = Folder::with_pictures();
    let train = "train --data data --img-size 32 --batch-size 8 --epochs 3 --output run";
    folder.run(train).expect_code(0);
    let eval = folder.run("eval --data data --checkpoint run/last.safetensors").expect_code(0);
    let entries = entries(&folder.run(&format!("{PREDICT} --format json data/val")).expect_code(0));
    assert_eq!(entries.len(), 24);
    let hits = best(&entries).iter().filter(|(file, class)| file.contains(*class)).count();
    // serde_json reads numbers to within a unit in the last place.
    let top1 = eval.json()["val_top1"].as_f64().expect("a number");
    assert!((top1 - hits as f64 / 24.0).abs() < 1e-12, "{top1}, {hits} hits");
    for entry in &entries {
        let predictions = entry["predictions"].as_array().expect("predictions");
        let probability = |value: &Value| value["probability"].as_f64().expect("a probability");
        let sum: f64 = predictions.iter().map(probability).sum();
        assert!(predictions.len() == 5 && sum <= 1.0 + 1e-6, "{entry}");
        assert!(predictions.is_sorted_by(|a, b| probability(a) >= probability(b)), "{entry}");
    }
}

#[test]
fn pictures_come_from_files_folders_globs_and_stdin() {
    let folder = Folder::with_run();
    let predict = |pictures: &str| {
        let flags = format!("{PREDICT} --format json --topk 1 {pictures}");
        entries(&folder.run(&flags).expect_code(0))
    };
    let of_folder = predict("data/val");
    // In batches of 16 or alone, the class is the same.
    for (file, class) in best(&of_folder).into_iter().step_by(5) {
        assert_eq!(best(&predict(file)), [(file, class)]);
    }
    assert_eq!(best(&predict("data/val/*/*.png")), best(&of_folder));
    assert_eq!(best(&predict("data/val/*/0000.png data/val/ring")).len(), 8 + 3);

    let picture = fs::read(folder.path("data/val/disc/0000.png")).expect("a picture");
    let flags = format!("{PREDICT} --format json -");
    let from_stdin = entries(&folder.run_with_input(&flags, &picture).expect_code(0));
    assert_eq!(best(&from_stdin), [("-", best(&predict("data/val/disc/0000.png"))[0].1)]);
    let ended = folder.run_with_input(&flags, b"no picture").expect_code(1);
    assert!(ended.stderr.contains("standard input"), "{}", ended.stderr);
}

#[test]
fn results_are_a_table_or_csv() {
    let folder = Folder::with_run();
    let table = folder.run(&format!("{PREDICT} --topk 2 data/val/disc")).expect_code(0).stdout;
    assert_eq!(table.lines().count(), 3 * 2);
    assert!(table.contains("data/val/disc/0002.png") && table.contains(" %  "), "{table}");

    let csv = folder.run(&format!("{PREDICT} --topk 99 --format csv data/val/disc")).expect_code(0);
    let mut csv = csv::Reader::from_reader(csv.stdout.as_bytes());
    let header = csv.headers().expect("a header").clone();
    assert_eq!(header, vec!["file", "rank", "index", "class", "probability"]);
    let rows: Vec<_> = csv.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), 3 * 8, "all classes of 3 pictures");
    let sum: f64 = rows[..8].iter().map(|row| row[4].parse::<f64>().expect("a number")).sum();
    // Eight probabilities in f32, each within half a unit in the last place of its value.
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    folder.fails(&format!("{PREDICT} --topk 0 data/val"), 2, &["--topk", "0"]);
}

#[test]
fn unreadable_pictures_are_named_and_the_others_predicted() {
    let folder = Folder::with_run();
    let whole = Folder::jpeg();
    folder.write("in/a.jpg", &whole);
    folder.write("in/b.jpg", &whole[..whole.len() / 2]);
    folder.write("in/c.png", "no picture");
    folder.write("in/d.png", "");
    let ended = folder.run(&format!("{PREDICT} --format json in")).expect_code(1);
    assert_eq!(best(&entries(&ended)).len(), 1);
    for words in [
        "in/b.jpg`: the JPEG is truncated",
        "in/c.png`: is not a JPEG",
        "in/d.png`: the file is empty",
    ] {
        assert!(ended.stderr.contains(words), "no `{words}` in:\n{}", ended.stderr);
    }
}

impl Folder {
    /// A picture that decodes.
    fn jpeg() -> Vec<u8> {
        let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 99]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        bytes.into_inner()
    }
}
