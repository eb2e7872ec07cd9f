//! Several processes under `mpirun`: the same numbers as in one, and an end for all of them when one
//! dies.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use biformer::data::shapes::{ShapesConfig, write_image_folder};
use serde_json::Value;

use super::{Ended, Folder, TRAIN, Watched, names};

/// Printed when the checkpoint of the epoch is on the disk.
const EPOCH_1: &str = "epoch   1 ";

/// One test at a time, for they share the processors; `None` where Open MPI is missing.
fn mpirun_is_there() -> Option<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::new(());
    let version = Command::new("mpirun").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("skipped: no mpirun (Debian: apt-get install openmpi-bin)");
        return None;
    }
    Some(ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Folder {
    /// Two processes, each with its own flags.
    fn mpirun(&self, flags: [&str; 2]) -> Command {
        let mut command = Command::new("mpirun");
        // Waiting processes give way, as there may be fewer processors than processes.
        command.args([
            "--allow-run-as-root",
            "--oversubscribe",
            "--mca",
            "mpi_yield_when_idle",
            "1",
        ]);
        for (rank, flags) in flags.into_iter().enumerate() {
            command.args(if rank == 0 { [].as_slice() } else { [":"].as_slice() });
            command.args(["-n", "1", env!("CARGO_BIN_EXE_biformer")]);
            command.args(flags.split_whitespace());
        }
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn run_twofold(&self, flags: &str) -> Ended {
        self.mpirun([flags; 2]).output().expect("mpirun").into()
    }
}

/// A loss of a run with one step an epoch, step by step.
fn losses(run: &Path, key: &str) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let loss = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        line[key].as_f64().expect("a loss")
    };
    text.lines().map(loss).collect()
}

/// With all that draws numbers or looks beyond a picture.
///
/// Both compute the same sums in another order; what that changes in float32 grows from step to
/// step, to 2e-7 when this was written. The validation is coarser: a bias before a batch norm has
/// a gradient of 0, of which rounding errors are left, and AdamW makes whole steps of them. In
/// training the norm takes the bias away; its running mean lags behind.
#[test]
fn two_processes_train_like_one_with_twice_the_batch() {
    let Some(_one) = mpirun_is_there() else { return };
    let folder = Folder::empty();
    let shapes = ShapesConfig { img_size: 32, train_per_class: 4, val_per_class: 1, seed: 0 };
    write_image_folder(&folder.path("data"), &shapes).expect("drawn pictures");
    let train = "train --data data --img-size 32 --epochs 20 --warmup-epochs 5 --lr 1e-3 \
                 --drop-path 0.2 --aa rand-m9-mstd0.5-inc1 --reprob 0.25 --mixup 0.8 --cutmix 1 \
                 --mixup-mode elem --clip-grad 1 --model-ema";
    folder.run(&format!("{train} --batch-size 32 --output one")).expect_code(0);
    let two = format!("{train} --batch-size 16 --sync-bn --output two");
    let ended = folder.run_twofold(&two).expect_code(0);
    assert_eq!(ended.stdout.lines().count(), 1, "one process tells the result: {}", ended.stdout);
    assert_eq!(ended.stderr.matches(EPOCH_1).count(), 1, "{}", ended.stderr);

    let distance = |run: &str, key: &str| {
        let [one, other] = ["one", run].map(|run| losses(&folder.path(run), key));
        assert_eq!((one.len(), other.len()), (20, 20));
        let relative = one.iter().zip(other).map(|(one, other)| (other - one).abs() / one);
        relative.fold(0.0, f64::max)
    };
    let [training, validation] = ["train_loss", "val_loss"].map(|key| distance("two", key));
    println!(
        "largest relative differences in 20 steps: {training:.1e}, validation {validation:.1e}"
    );
    assert!(training < 1e-5, "{training}");
    assert!(validation < 1e-3, "{validation}");

    // Where batch norms see their own pictures only, losses differ: the test would notice.
    folder.run_twofold(&format!("{train} --batch-size 16 --output apart")).expect_code(0);
    assert!(distance("apart", "train_loss") > 1e-3);
}

/// With both heads of UPerNet, their dropout, and pieces that reach beyond their pictures. Sums in another
/// order differ more from step to step, to 3e-6 when this was written.
#[test]
fn segmentors_train_in_two_processes_like_one_with_twice_the_batch() {
    let Some(_one) = mpirun_is_there() else { return };
    let folder = Folder::with_scenes();
    let train = "train --task segment --data scenes --model biformer_pico --method upernet \
                 --head-channels 16 --aux-channels 16 --crop-size 64 --img-scale 64 64 --max-iters 10 \
                 --val-interval 1 --warmup-iters 5 --lr 1e-3 --drop-path 0.2 --clip-grad 1 --model-ema";
    folder.run(&format!("{train} --batch-size 8 --output one")).expect_code(0);
    let two = format!("{train} --batch-size 4 --sync-bn --output two");
    let ended = folder.run_twofold(&two).expect_code(0);
    assert_eq!(ended.stdout.lines().count(), 1, "one process tells the result: {}", ended.stdout);
    let distance = |run: &str| {
        let [one, other] = ["one", run].map(|run| losses(&folder.path(run), "train_loss"));
        assert_eq!((one.len(), other.len()), (10, 10));
        let relative = one.iter().zip(other).map(|(one, other)| (other - one).abs() / one);
        relative.fold(0.0, f64::max)
    };
    let rounding = distance("two");
    println!("largest relative difference in 10 steps: {rounding:.1e}");
    assert!(rounding < 1e-5, "{rounding}");
    folder.run_twofold(&format!("{train} --batch-size 4 --output apart")).expect_code(0);
    assert!(distance("apart") > 1e-3, "the test would not notice other batch norms");
}

#[test]
fn a_rank_that_fails_ends_all_with_its_reason() {
    let Some(_one) = mpirun_is_there() else { return };
    let folder = Folder::with_pictures();
    let train = format!("{TRAIN} --output run");
    for (others, code, words) in [
        ("train --data missing --output run", 1, ["rank 1: error: ", "missing"]),
        (&format!("{train} --lr 0.5"), 1, ["the processes of the run", "the same recipe"]),
        ("info", 1, ["rank 1: error: ", "without mpirun"]),
    ] {
        let ended = Ended::from(folder.mpirun([&train, others]).output().expect("mpirun"));
        let ended = ended.expect_code(code);
        for word in words {
            assert!(ended.stderr.contains(word), "no `{word}` in:\n{}", ended.stderr);
        }
        assert!(!folder.path("run").exists(), "a run that cannot start leaves no folder");
    }
    // What all have in common is told once.
    let train = "train --data data --img-size 32 --mixup 1 --batch-size 3 --output run";
    let ended = folder.run_twofold(train);
    let stderr = ended.expect_code(2).stderr;
    assert_eq!(stderr.matches("must be even").count(), 1, "{stderr}");
}

#[test]
fn killed_and_interrupted_runs_end_with_the_same_weights() {
    let Some(_one) = mpirun_is_there() else { return };
    let folder = Folder::with_pictures();
    let train = format!("{TRAIN} --epochs 3 --output");
    folder.run_twofold(&format!("{train} reference")).expect_code(0);
    let start = |flags: &str| Watched::start(folder.mpirun([flags; 2]));

    let killed = start(&format!("{train} run")).wait_for(EPOCH_1);
    signal_rank("-KILL", 1, killed.child.id());
    let ended = killed.end();
    assert!(ended.code != Some(0) && ended.stderr.contains("rank 1"), "{}", ended.stderr);

    let interrupted = start("train --resume run").wait_for("going on after epoch 1, step 0");
    signal_rank("-INT", 1, interrupted.child.id());
    let ended = interrupted.end().expect_code(130);
    assert!(ended.stderr.contains("interrupted after epoch 1"), "{}", ended.stderr);

    folder.run_twofold("train --resume run").expect_code(0);
    for weights in ["last.safetensors", "best.safetensors"] {
        let read = |run: &str| fs::read(folder.path(run).join(weights)).expect("weights");
        assert!(read("run") == read("reference"), "other {weights}");
    }
}

/// What `kill -SIGNAL` does to one of the processes that `mpirun` started.
fn signal_rank(signal: &str, rank: usize, mpirun: u32) {
    let is_rank = |process: &Path| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
        status.contains(&format!("\nPPid:\t{mpirun}\n"))
            && environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let mut processes = fs::read_dir("/proc").expect("processes").flatten();
    let process = processes.find(|process| is_rank(&process.path())).expect("the rank");
    let status = Command::new("kill").arg(signal).arg(process.file_name()).status().expect("kill");
    assert!(status.success());
}

/// Batches of one picture a process: where it cannot be read, the process takes part without one.
#[test]
fn unreadable_pictures_stop_nobody() {
    let Some(_one) = mpirun_is_there() else { return };
    let folder = Folder::with_pictures();
    for class in ["disc", "ring"] {
        for picture in 0..8 {
            folder.write(&format!("data/train/{class}/broken{picture}.png"), "no picture");
        }
    }
    let train = "train --data data --img-size 32 --batch-size 1 --epochs 1";
    for (flags, output) in [("--sync-bn", "synchronised"), ("--drop-path 0.5", "apart")] {
        let ended = folder.run_twofold(&format!("{train} {flags} --output {output}"));
        let stderr = ended.expect_code(0).stderr;
        assert_eq!(stderr.matches("broken").count(), 16, "each is told once:\n{stderr}");
        let metrics = fs::read_to_string(folder.path(output).join("metrics.jsonl"));
        assert!(metrics.expect("metrics").contains(r#""skipped":16,"val_images":24"#));
    }
}

#[test]
fn eval_and_predict_find_in_two_processes_what_one_finds() {
    let Some(_one) = mpirun_is_there() else { return };
    let folder = Folder::with_run();
    folder.write("data/val/disc/broken.png", "no picture");
    let weights = "--checkpoint run/last.safetensors";
    let eval = format!("eval --data data --batch-size 5 {weights}");
    let [one, two] =
        [folder.run(&eval), folder.run_twofold(&eval)].map(|ended| ended.expect_code(0).json());
    for key in ["val_top1", "val_top5", "images", "skipped"] {
        assert_eq!(two[key], one[key], "{key}");
    }
    let loss = |json: &Value| json["val_loss"].as_f64().expect("a loss");
    assert!((loss(&two) - loss(&one)).abs() < 1e-6, "{two} {one}");

    for format in ["table", "json", "csv"] {
        let predict = format!("predict {weights} --format {format} data/val data/train");
        let [one, two] = [folder.run(&predict), folder.run_twofold(&predict)];
        assert_eq!((one.code, two.code), (Some(1), Some(1)), "{}", two.stderr);
        assert_eq!(two.stdout, one.stdout, "{format}");
        assert!(two.stderr.contains("broken.png"), "{}", two.stderr);
    }
}

#[test]
fn segmentors_find_in_two_processes_what_one_finds() {
    let Some(_one) = mpirun_is_there() else { return };
    let folder = Folder::with_scenes();
    let train = "train --task segment --data scenes --model biformer_pico --method linear --crop-size 64 \
                 --img-scale 64 64 --batch-size 4 --max-iters 2 --val-interval 2 --warmup-iters 0";
    folder.run(&format!("{train} --output run")).expect_code(0);
    let weights = "--checkpoint run/last.safetensors";
    let eval = format!("eval --data scenes --split train {weights}");
    let [one, two] =
        [folder.run(&eval), folder.run_twofold(&eval)].map(|ended| ended.expect_code(0).json());
    for key in ["mIoU", "mAcc", "aAcc", "images"] {
        assert_eq!(two[key], one[key], "{key}");
    }

    // An odd number of them, of which one cannot be read and two have the same name.
    folder.write("broken.png", "no picture");
    let pictures = "broken.png scenes/images/val scenes/images/train/disc_0000.png \
                    scenes/images/train/disc_0001.png";
    for format in ["table", "json", "csv"] {
        let predict = format!("predict {weights} --format {format} {pictures} --output seen");
        let one = folder.run(&predict);
        let read = |name: &String| fs::read(folder.path("seen").join(name)).expect("a file");
        let list = || {
            let labels = names(&folder.path("seen/labels"));
            let labels = labels.into_iter().map(|name| format!("labels/{name}"));
            let overlays = names(&folder.path("seen")).into_iter();
            labels.chain(overlays.filter(|name| name != "labels")).collect::<Vec<_>>()
        };
        let (files, before) = (list(), list().iter().map(read).collect::<Vec<_>>());
        assert_eq!(files.len(), 2 * 10);
        fs::remove_dir_all(folder.path("seen")).expect("a folder");
        let two = folder.run_twofold(&predict);
        assert_eq!((one.code, two.code), (Some(1), Some(1)), "{}", two.stderr);
        assert_eq!(two.stdout, one.stdout, "{format}");
        assert!(two.stderr.contains("broken.png"), "{}", two.stderr);
        assert_eq!(list(), files);
        assert!(files.iter().map(read).collect::<Vec<_>>() == before, "other files");
    }
    // Both take the same free folder.
    let predict = format!("predict {weights} scenes/images/val");
    folder.run(&predict).expect_code(0);
    folder.run_twofold(&predict).expect_code(0);
    assert_eq!(names(&folder.path("runs")), ["predict", "predict2"]);
    let stdin = format!("predict {weights} -");
    let stderr = folder.run_twofold(&stdin).expect_code(2).stderr;
    assert!(stderr.contains("standard input goes to one process only"), "{stderr}");
}
