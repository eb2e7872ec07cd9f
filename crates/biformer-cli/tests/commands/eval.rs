//! `eval` and `export`: the weights alone tell everything.

use std::fs;

use biformer::classification::imagenet1k_wordnet_ids;
use serde_json::Value;

use super::{Folder, assert_keys, names};

#[test]
fn eval_finds_what_train_reported() {
    let folder = Folder::with_pictures();
    let train = "train --data data --img-size 32 --batch-size 8 --epochs 2 --output run";
    let reported = folder.run(train).expect_code(0).json();
    fs::rename(folder.path("run/last.safetensors"), folder.path("weights.safetensors"))
        .expect("the weights alone");
    fs::remove_dir_all(folder.path("run")).expect("no run any more");
    for data in ["data", "data/val"] {
        let eval = format!("eval --data {data} --checkpoint weights.safetensors");
        let json = folder.run(&eval).expect_code(0).json();
        assert_keys(&json, &["val_top1", "val_top5", "val_loss", "images", "seconds"]);
        for key in ["val_top1", "val_top5", "images"] {
            assert_eq!(json[key], reported[key], "{key}");
        }
        // The mean over batches of 64 instead of 8: another order of a sum in f32.
        let loss = |json: &Value| json["val_loss"].as_f64().expect("a loss");
        assert!((loss(&json) - loss(&reported)).abs() < 1e-5, "{json} {reported}");
    }
    let eval = "eval --data data --checkpoint weights.safetensors --batch-size 5 --img-size 64";
    assert_eq!(folder.run(eval).expect_code(0).json()["images"], 24);
}

#[test]
fn eval_counts_unreadable_pictures() {
    let folder = Folder::with_run();
    folder.write("data/val/disc/broken.png", "no picture");
    let ended = folder.run("eval --data data --checkpoint run/last.safetensors").expect_code(0);
    let json = ended.json();
    assert_eq!((&json["images"], &json["skipped"]), (&24.into(), &1.into()));
    assert!(ended.stderr.contains("broken.png"), "{}", ended.stderr);
}

#[test]
fn eval_tells_about_each_class() {
    let folder = Folder::with_run();
    let eval = "eval --data data --checkpoint run/last.safetensors";
    let ended = folder.run(&format!("{eval} --output report")).expect_code(0);
    let json = ended.json();
    assert_keys(&json, &["val_top1", "macro_f1", "mean_per_class_accuracy"]);
    assert_eq!(json["output"], "report");
    // Every class has three pictures, so that the mean over classes is that over pictures.
    let number = |key: &str| json[key].as_f64().expect("a number");
    assert!((number("mean_per_class_accuracy") - number("val_top1")).abs() < 1e-9, "{json}");
    assert_eq!(
        names(&folder.path("report")),
        [
            "confusion_matrix.csv",
            "confusion_matrix.png",
            "confusion_matrix_normalized.png",
            "per_class.csv",
        ]
    );
    for picture in ["confusion_matrix.png", "confusion_matrix_normalized.png"] {
        image::open(folder.path("report").join(picture)).expect("a PNG that decodes");
    }

    // The rows of the matrix add up to the pictures, its diagonal to the hits.
    let mut csv = csv::Reader::from_path(folder.path("report/confusion_matrix.csv")).expect("CSV");
    let header = csv.headers().expect("a header").clone();
    assert_eq!((&header[0], &header[1], header.len()), ("true", "crescent", 9));
    let (mut sum, mut diagonal) = (0, 0);
    for (row, record) in csv.records().enumerate() {
        let record = record.expect("a row");
        assert_eq!(record[0], header[row + 1]);
        let counts = record.iter().skip(1).map(|count| count.parse::<u32>().expect("a count"));
        assert_eq!(counts.clone().sum::<u32>(), 3);
        sum += 3;
        diagonal += counts.clone().nth(row).expect("a square");
    }
    assert_eq!(f64::from(diagonal) / f64::from(sum), number("val_top1"));

    let mut csv = csv::Reader::from_path(folder.path("report/per_class.csv")).expect("CSV");
    let f1 = csv.headers().expect("a header").iter().position(|column| column == "f1");
    let f1 = f1.expect("the column `f1`");
    let rows: Vec<csv::StringRecord> = csv.records().map(|row| row.expect("a row")).collect();
    let mean = rows.iter().map(|row| row[f1].parse::<f64>().expect("a score")).sum::<f64>() / 8.0;
    assert!((mean - number("macro_f1")).abs() < 1e-4, "{mean} {json}");

    // A table of the eight classes and their mean, a summary, the JSON.
    let table: Vec<&str> = ended.stdout.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(table.len(), 10, "{}", ended.stdout);
    assert!(table[0].contains("precision") && table[1].starts_with("crescent"), "{table:?}");

    folder.fails(&format!("{eval} --output data/val/disc/0000.png"), 1, &["0000.png", "folder"]);
}

#[test]
fn eval_copes_with_absent_classes() {
    let folder = Folder::with_run();
    for class in names(&folder.path("data/val")).into_iter().filter(|class| class != "disc") {
        fs::remove_dir_all(folder.path("data/val").join(class)).expect("a class less");
    }
    let eval = "eval --data data --checkpoint run/last.safetensors --output report";
    let json = folder.run(eval).expect_code(0).json();
    assert_eq!((&json["images"], &json["mean_per_class_accuracy"]), (&3.into(), &json["val_top1"]));
    for picture in names(&folder.path("data/val/disc")) {
        folder.write(&format!("data/val/disc/{picture}"), "no picture");
    }
    let json = folder.run(&eval.replace("report", "nothing")).expect_code(0).json();
    assert_eq!((&json["images"], &json["macro_f1"]), (&0.into(), &0.0.into()));
    assert_eq!(names(&folder.path("nothing")), ["confusion_matrix.csv", "per_class.csv"]);
}

#[test]
fn export_gives_the_same_predictions() {
    let folder = Folder::with_run();
    let export = "export --checkpoint run/best.safetensors --output exported.safetensors";
    assert_eq!(folder.run(export).expect_code(0).json()["num_classes"], 8);
    let predict = |checkpoint: &str| {
        let predict = format!("predict data/val --format csv --checkpoint {checkpoint}");
        folder.run(&predict).expect_code(0).stdout
    };
    assert_eq!(predict("exported.safetensors"), predict("run/best.safetensors"));
    let exported = fs::read(folder.path("exported.safetensors")).expect("a file");
    assert!(exported == fs::read(folder.path("run/best.safetensors")).expect("a file"));
    let export = "export --checkpoint run/best.safetensors --output";
    folder.fails(&format!("{export} exported.pth"), 2, &["exported.pth", ".safetensors"]);
    folder.fails(&format!("{export} no/x.safetensors"), 1, &["no/x.safetensors", "No such file"]);
}

#[test]
fn another_head_is_replaced_and_said_so() {
    let folder = Folder::with_run();
    let export =
        "export --checkpoint run/best.safetensors --num-classes 3 --output three.safetensors";
    let ended = folder.run(export).expect_code(0);
    let warning = "head of 8 classes is replaced by a fresh, untrained one of 3";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    assert_eq!(ended.json()["num_classes"], 3);
    let predict = "predict data/val/disc/0000.png --checkpoint three.safetensors";
    assert!(folder.run(predict).expect_code(0).stdout.contains("class_2"));
}

/// ImageNet's folders are WordNet ids and no names of classes; a subset has some of them.
#[test]
fn imagenet_folders_are_labelled_by_their_wordnet_ids() {
    let folder = Folder::with_run();
    let export =
        "export --checkpoint run/best.safetensors --num-classes 1000 --output in1k.safetensors";
    folder.run(export).expect_code(0);
    let picture = fs::read(folder.path("data/val/disc/0000.png")).expect("a picture");
    for id in imagenet1k_wordnet_ids() {
        folder.write(&format!("in1k/val/{id}/0.png"), &picture);
    }
    let eval = "eval --data in1k --checkpoint in1k.safetensors";
    let ended = folder.run(eval).expect_code(0);
    let json = ended.json();
    // One picture under all labels: right exactly once.
    assert_eq!((&json["images"], &json["val_top1"]), (&1000.into(), &0.001.into()));
    // Of so many classes only the worst are shown, and all with `--per-class`.
    assert!(ended.stdout.lines().count() < 20 && ended.stdout.contains("--per-class"));
    let all = folder.run(&format!("{eval} --per-class --output report")).expect_code(0);
    assert!(all.stdout.lines().count() > 1000 && all.stdout.contains("goldfish"));
    let report = fs::read_to_string(folder.path("report/per_class.csv")).expect("a CSV");
    assert_eq!(report.lines().count(), 1001);
    fs::remove_dir_all(folder.path("in1k/val/n01443537")).expect("one class less");
    assert_eq!(folder.run(eval).expect_code(0).json()["images"], 999);
    folder.write("in1k/val/n99999999/0.png", &picture);
    folder.fails(eval, 1, &["in1k/val", "not among the 1000"]);
}
