//! Scalars for TensorBoard: an `events.out.tfevents.*` file for each start of a run.
//!
//! Every start appends a file, since TensorBoard follows files that grow and merges those of a
//! folder. Points are never told twice: those of an epoch are written once its checkpoint is on
//! the disk; those of single steps at once, and a start declares what it will repeat, so that
//! TensorBoard forgets the steps that a killed run left without a checkpoint.
//!
//! Written here because the crates that do it bring a protobuf compiler's output for two messages.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::EpochMetrics;
use crate::{Error, Result};

/// Of the steps of a run, the first and every tenth after it have a point.
const EVERY: usize = 10;

/// The events of one start of a run.
pub(super) struct EventLog {
    folder: PathBuf,
    first_step: usize,
    /// Opened by the first point: a start that does nothing leaves no file.
    file: Option<(PathBuf, File)>,
}

impl EventLog {
    /// `first_step` is the first that this start will take; steps count from 1, through all epochs.
    pub(super) fn new(folder: &Path, first_step: usize) -> Self {
        Self { folder: folder.to_owned(), first_step, file: None }
    }

    /// A point of the curves over steps, if this step has one.
    pub(super) fn write_step(&mut self, step: usize, loss: f64, lr: f64) -> Result<()> {
        if !(step - 1).is_multiple_of(EVERY) {
            return Ok(());
        }
        self.write_scalars(step, &[("train/loss_step", loss), ("lr_step", lr)])
    }

    /// A point of the curves over epochs; only after the checkpoint of the epoch.
    pub(super) fn write_epoch(&mut self, metrics: &EpochMetrics) -> Result<()> {
        let scores = metrics.scores.named();
        // `val_top1` of the other files goes by the name of `val/top1` here.
        let tags: Vec<String> = scores.iter().map(|(name, _)| name.replacen('_', "/", 1)).collect();
        let mut scalars = vec![
            ("train/loss", metrics.train_loss),
            ("lr", metrics.lr),
            ("images_per_second", metrics.images_per_second),
        ];
        scalars.extend(tags.iter().zip(&scores).map(|(tag, (_, score))| (tag.as_str(), *score)));
        self.write_scalars(metrics.epoch, &scalars)
    }

    fn write_scalars(&mut self, step: usize, scalars: &[(&str, f64)]) -> Result<()> {
        let (path, file) = match &mut self.file {
            Some(open) => open,
            closed => closed.insert(begin(&self.folder, self.first_step)?),
        };
        // In one piece and not buffered: TensorBoard sees it now, and a kill leaves whole records.
        let record = record(&event(step, &Content::Scalars(scalars)));
        file.write_all(&record).map_err(|source| Error::io("write", path, source))
    }
}

/// A new file that says what it is, and which steps it will repeat.
fn begin(folder: &Path, first_step: usize) -> Result<(PathBuf, File)> {
    let (path, mut file) = create(folder)?;
    let mut records = record(&event(0, &Content::Version));
    records.extend(record(&event(first_step, &Content::Start)));
    file.write_all(&records).map_err(|source| Error::io("write", &path, source))?;
    Ok((path, file))
}

/// TensorBoard reads the files of a folder in the order of their names. The place of the host has
/// the program's name: who passes on a run need not tell how the machine is called.
fn create(folder: &Path) -> Result<(PathBuf, File)> {
    let seconds = now().as_secs();
    let mut number = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.biformer.{number}"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            // Killed and resumed within a second.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(Error::io("create", path, source)),
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// TFRecord: length, its checksum, content, its checksum; little-endian.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| {
        let masked = crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8);
        masked.to_le_bytes()
    };
    [&length[..], &checksum(&length), content, &checksum(content)].concat()
}

/// What an event says.
enum Content<'a> {
    /// The format of the file.
    Version,
    /// Steps from that of this event on replace those of earlier files.
    Start,
    Scalars(&'a [(&'a str, f64)]),
}

/// The message `Event` of `tensorboard/compat/proto/event.proto`.
fn event(step: usize, content: &Content<'_>) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, now().as_secs_f64()); // wall_time
    event.varint(2, step as u64);
    match content {
        Content::Version => event.bytes(3, b"brain.Event:2"),
        Content::Start => {
            let mut session_log = Message::default();
            session_log.varint(1, 1); // status: START
            event.bytes(7, &session_log.0);
        }
        Content::Scalars(scalars) => {
            let mut summary = Message::default();
            for &(tag, scalar) in *scalars {
                let mut value = Message::default();
                value.bytes(1, tag.as_bytes());
                value.float(2, scalar as f32); // simple_value
                summary.bytes(1, &value.0);
            }
            event.bytes(5, &summary.0);
        }
    }
    event.0
}

/// A protobuf message: each field is its number with the type of its value, then the value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.push_varint(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push(field << 3 | 2);
        self.push_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u8, value: f32) {
        self.0.push(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more follow.
    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
