//! What the tests share: a fresh directory with pictures, the binary, what it said.

mod bad_input;
mod benchmark;
mod check_data;
mod compare;
mod demo;
mod detection;
mod eval;
mod info;
mod interrupt;
mod label_maps;
#[cfg(feature = "mpi")]
mod mpi;
mod predict;
mod pretrained;
mod segmentation;
mod train;
mod visualize;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use biformer::data::shapes::{ShapesConfig, write_image_folder};
use serde_json::Value;
use tempfile::TempDir;

/// A fresh directory, removed at the end.
struct Folder(TempDir);

/// How the names of event files begin.
const EVENTS: &str = "events.out.tfevents.";

/// How the binary ended and what it said.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Folder {
    fn empty() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// With the data set `data`: 8 classes of 8 training and 3 validation pictures.
    fn with_pictures() -> Self {
        let folder = Self::empty();
        let config = ShapesConfig { img_size: 32, train_per_class: 8, val_per_class: 3, seed: 0 };
        write_image_folder(&folder.path("data"), &config).expect("drawn pictures");
        folder
    }

    /// With the data set and the run `run` of one epoch on it.
    fn with_run() -> Self {
        let folder = Self::with_pictures();
        folder.run(&format!("{TRAIN} --epochs 1 --output run")).expect_code(0);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    /// `biformer` with these flags, which hold no blanks.
    fn command(&self, flags: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_biformer"));
        command.args(flags.split_whitespace()).current_dir(self.0.path());
        command
    }

    fn run(&self, flags: &str) -> Ended {
        self.command(flags).stdin(Stdio::null()).output().expect("the binary runs").into()
    }

    fn run_with_input(&self, flags: &str, input: &[u8]) -> Ended {
        let mut command = self.command(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        child.stdin.take().expect("its input").write_all(input).expect("it reads");
        child.wait_with_output().expect("it ends").into()
    }

    /// Fails as `code`, saying all of `words` on stderr and nothing on stdout.
    fn fails(&self, flags: &str, code: i32, words: &[&str]) {
        let ended = self.run(flags).expect_code(code);
        for word in words {
            assert!(ended.stderr.contains(word), "`{flags}`: no `{word}` in:\n{}", ended.stderr);
        }
        assert_eq!(ended.stdout, "", "stdout of `{flags}`");
    }
}

/// A run of a second, with stochastic depth.
const TRAIN: &str = "train --data data --img-size 32 --batch-size 8 --drop-path 0.2";

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let Output { status, stdout, stderr } = output;
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Ended {
    fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stderr:\n{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "stderr:\n{}", self.stderr);
        self
    }

    /// The last line of stdout, one JSON object.
    fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: `{line}`"));
        assert!(value.is_object(), "`{line}`");
        value
    }
}

/// A process that is watched through its stderr.
struct Watched {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Watched {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        Self { child, stderr, said: String::new() }
    }

    /// Waits for a line that contains `words`.
    fn wait_for(mut self, words: &str) -> Self {
        loop {
            let start = self.said.len();
            let length = self.stderr.read_line(&mut self.said).expect("UTF-8");
            assert!(length > 0, "ended without `{words}`:\n{}", self.said);
            if self.said[start..].contains(words) {
                return self;
            }
        }
    }

    /// What `kill -SIGNAL` does.
    fn signal(self, signal: &str) -> Self {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(status.success(), "kill {signal} {pid}");
        self
    }

    fn end(mut self) -> Ended {
        self.stderr.read_to_string(&mut self.said).expect("UTF-8");
        let ended = Ended::from(self.child.wait_with_output().expect("it ends"));
        Ended { stderr: self.said, ..ended }
    }
}

/// `expected` are keys of the object.
fn assert_keys(object: &Value, expected: &[&str]) {
    for key in expected {
        assert!(!object[key].is_null(), "no `{key}` in {object}");
    }
}

/// Names in a folder, sorted; of event files only what is the same in every run.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("UTF-8");
        if name.starts_with(EVENTS) { EVENTS.to_owned() } else { name }
    };
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}
