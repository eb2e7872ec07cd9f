//! Runs that are interrupted, killed, or meet a full disk, and what is left of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ended, Folder, TRAIN, Watched, names};

/// Printed before the first step.
const STARTED: &str = "training and 24 validation pictures";
/// Printed when the checkpoint of the epoch is on the disk.
const EPOCH_1: &str = "epoch   1 ";
const EPOCH_2: &str = "epoch   2 ";

const INTERRUPTED: i32 = 130;

/// With `reference`, a run of three epochs that nothing disturbs.
fn with_reference() -> Folder {
    let folder = Folder::with_pictures();
    train(&folder, "reference").end().expect_code(0);
    folder
}

fn train(folder: &Folder, output: &str) -> Watched {
    Watched::start(folder.command(&format!("{TRAIN} --epochs 3 --output {output}")))
}

fn resume(folder: &Folder, output: &str) -> Watched {
    Watched::start(folder.command(&format!("train --resume {output}")))
}

/// The weights bit for bit, and all metrics but time.
fn assert_same_run(folder: &Folder, output: &str) {
    for weights in ["last.safetensors", "best.safetensors"] {
        let read = |run: &str| fs::read(folder.path(run).join(weights)).expect("weights");
        assert!(read(output) == read("reference"), "{output}: other {weights}");
    }
    let results = |run: &str| results_without_time(&folder.path(run).join("results.csv"));
    assert_eq!(results(output), results("reference"), "{output}");
}

fn results_without_time(path: &Path) -> Vec<Vec<String>> {
    let mut csv = csv::Reader::from_path(path).expect("results");
    let header = csv.headers().expect("a header").clone();
    let is_time = |column: &str| ["images_per_second", "seconds"].contains(&column);
    let rows = csv.records().map(|row| {
        let row = row.expect("a row");
        let columns = header.iter().zip(&row).filter(|(column, _)| !is_time(column));
        columns.map(|(column, value)| format!("{column} {value}")).collect()
    });
    rows.collect()
}

fn assert_interrupted(ended: Ended, output: &str) {
    let ended = ended.expect_code(INTERRUPTED);
    let hint = format!("biformer train --resume {output}");
    assert!(ended.stderr.contains(&hint), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn an_interrupted_run_ends_with_the_same_weights() {
    let folder = with_reference();
    assert_interrupted(train(&folder, "run").wait_for(STARTED).signal("-INT").end(), "run");
    let resumed = resume(&folder, "run").wait_for("going on after epoch 0, step ");
    let ended = resumed.wait_for(EPOCH_1).signal("-TERM").end();
    assert_interrupted(ended, "run");
    let ended = resume(&folder, "run").wait_for("going on after epoch ").end().expect_code(0);
    assert_eq!(ended.json()["epochs"], 3);
    assert_same_run(&folder, "run");
}

#[test]
fn a_killed_run_ends_with_the_same_weights() {
    let folder = with_reference();
    let killed = train(&folder, "run").wait_for(STARTED).signal("-KILL").end();
    assert_eq!(killed.code, None, "ended by a signal");
    assert!(!folder.path("run/checkpoint.safetensors").exists(), "killed before a checkpoint");
    let killed = resume(&folder, "run").wait_for(EPOCH_1).signal("-KILL").end();
    assert_eq!(killed.code, None, "ended by a signal");
    let resumed = resume(&folder, "run").wait_for("going on after epoch 1, step 0");
    let killed = resumed.wait_for(EPOCH_2).signal("-KILL").end();
    assert_eq!(killed.code, None, "ended by a signal");
    resume(&folder, "run").end().expect_code(0);
    assert_same_run(&folder, "run");

    // A finished run has nothing left to do, and says the same again.
    let json = resume(&folder, "run").end().expect_code(0).json();
    assert_eq!((&json["epochs"], &json["images"]), (&3.into(), &24.into()));
    assert_same_run(&folder, "run");
}

#[test]
fn an_interrupted_eval_and_predict_end_with_130() {
    let folder = Folder::with_run();
    // Thousands of pictures, so that the signal comes in time.
    folder.write("many/val/disc/0000.png", "no picture");
    for index in 1..6000 {
        let name = folder.path(&format!("many/val/disc/{index:04}.png"));
        fs::hard_link(folder.path("data/val/disc/0000.png"), name).expect("a link");
    }
    // The unreadable first picture tells that the work has begun.
    let eval = "eval --data many --checkpoint run/last.safetensors";
    let ended = Watched::start(folder.command(eval)).wait_for("0000.png").signal("-INT").end();
    let ended = ended.expect_code(INTERRUPTED);
    assert!(ended.stderr.contains("interrupted after"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");

    let predict = "predict --checkpoint run/last.safetensors --format json many";
    let ended = Watched::start(folder.command(predict)).wait_for("0000.png").signal("-INT").end();
    let ended = ended.expect_code(INTERRUPTED);
    let done: serde_json::Value = serde_json::from_str(&ended.stdout).expect("whole JSON");
    assert!(done.as_array().expect("a list").len() < 5999);
}

#[test]
fn a_full_disk_is_an_error_and_the_earlier_checkpoint_loads() {
    let folder = Folder::with_pictures();
    // The files of an epoch take 32 MB, the next checkpoint another 20 MB until it is renamed.
    let disk = match SmallDisk::mount(folder.path("disk"), "45m") {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: no small disk could be mounted: {reason}"),
    };
    let ended = folder.run(&format!("{TRAIN} --epochs 2 --output disk/run")).expect_code(1);
    for word in ["disk/run/", "cannot write", "No space left", "--resume disk/run"] {
        assert!(ended.stderr.contains(word), "no `{word}` in:\n{}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
    let hidden = names(&folder.path("disk/run")).into_iter().find(|name| name.starts_with('.'));
    assert_eq!(hidden, None, "a temporary file was left");

    let moved = folder.path("run");
    let status = Command::new("cp").arg("-r").arg(folder.path("disk/run")).arg(&moved).status();
    assert!(status.expect("cp").success());
    drop(disk);
    let ended = folder.run("train --resume run").expect_code(0);
    assert!(ended.stderr.contains("going on after epoch 1, step 0"), "{}", ended.stderr);
}

/// A tmpfs, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Result<Self, String> {
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        let output = output.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(Self(path)),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
