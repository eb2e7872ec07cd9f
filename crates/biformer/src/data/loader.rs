//! Batches of pictures, decoded and transformed on worker threads while the model computes.
//!
//! The content of a batch depends on seed, epoch and position alone, never on the number of
//! threads, so that a run that is interrupted can go on exactly where it was.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::RgbImage;
use super::image::decode;
use crate::Result;

/// Batches that wait ready while the model computes; more would only take memory.
const PREFETCH: usize = 2;

/// A batch of transformed pictures.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[labels.len(), 3, height, width]`, row-major
    pub pixels: Vec<f32>,
    /// Class of each picture.
    pub labels: Vec<usize>,
    /// What an annotator says of each picture and its tokens, `[labels.len(), 1 + tokens, num_classes]`;
    /// empty without token labeling.
    pub token_targets: Vec<f32>,
    /// Pictures left out because they cannot be decoded, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

/// What becomes of one picture.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// `[3, height, width]`
    pub pixels: Vec<f32>,
    /// See [`Batch::token_targets`].
    pub token_targets: Vec<f32>,
}

impl From<Vec<f32>> for Sample {
    fn from(pixels: Vec<f32>) -> Self {
        Self { pixels, token_targets: Vec::new() }
    }
}

/// From a picture, its path and its own source of randomness to numbers.
pub type Transform = dyn Fn(&Path, &RgbImage, &mut StdRng) -> Result<Sample> + Send + Sync;

/// Pictures in batches, epoch after epoch.
#[derive(Clone, Debug)]
pub struct DataLoader {
    /// Path and class of each picture.
    pub samples: Vec<(PathBuf, usize)>,
    /// Pictures in a batch.
    pub batch_size: usize,
    /// Whether the order is shuffled by seed and epoch, and an incomplete last batch left out
    /// (unless it is the only one).
    pub shuffle: bool,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Repeated augmentation (Hoffer et al., 2020): every picture comes this often in a row, each
    /// time augmented anew, and the epoch ends after as many pictures as without. 1 or 0 is off.
    pub aug_repeats: usize,
}

impl DataLoader {
    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        let full = self.samples.len() / self.batch_size;
        if self.shuffle && full > 0 { full } else { self.samples.len().div_ceil(self.batch_size) }
    }

    /// The batches of `epoch` from number `first` on.
    pub fn epoch(self, epoch: usize, first: usize, transform: Box<Transform>) -> Batches {
        let (sender, receiver) = sync_channel(PREFETCH);
        let order = self.order(epoch);
        let worker = thread::spawn(move || {
            let batches = order.chunks(self.batch_size).take(self.batches()).skip(first);
            for views in batches {
                let batch = load_batch(&self, views, epoch, &transform);
                if sender.send(batch).is_err() {
                    return; // nobody waits for it any more
                }
            }
        });
        Batches { receiver, worker: Some(worker) }
    }

    /// What an epoch looks at, in order.
    fn order(&self, epoch: usize) -> Vec<View> {
        let mut pictures: Vec<usize> = (0..self.samples.len()).collect();
        if self.shuffle {
            pictures.shuffle(&mut rng(self.seed, epoch, usize::MAX, 0));
        }
        let repeats = self.aug_repeats.max(1);
        let views = pictures
            .into_iter()
            .flat_map(|picture| (0..repeats).map(move |repeat| View { picture, repeat }));
        views.take(self.samples.len()).collect()
    }
}

/// One look at a picture.
#[derive(Clone, Copy)]
struct View {
    /// Position in the samples.
    picture: usize,
    /// Which of the looks at it in this epoch, from 0.
    repeat: usize,
}

/// The batches of one epoch in order.
pub struct Batches {
    receiver: Receiver<Batch>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let batch = self.receiver.recv().ok();
        // A worker that died must not pass for an epoch that has ended.
        if batch.is_none()
            && let Some(Err(panic)) = self.worker.take().map(JoinHandle::join)
        {
            resume_unwind(panic);
        }
        batch
    }
}

fn load_batch(loader: &DataLoader, views: &[View], epoch: usize, transform: &Transform) -> Batch {
    let load = |&View { picture, repeat }: &View| -> Result<Sample> {
        let path = &loader.samples[picture].0;
        transform(path, &decode(path)?, &mut rng(loader.seed, epoch, picture, repeat))
    };
    let pictures: Vec<_> = views.par_iter().map(load).collect();
    let mut batch = Batch {
        pixels: Vec::new(),
        labels: Vec::new(),
        token_targets: Vec::new(),
        skipped: Vec::new(),
    };
    for (view, sample) in views.iter().zip(pictures) {
        let (path, label) = &loader.samples[view.picture];
        match sample {
            Ok(sample) => {
                batch.pixels.extend_from_slice(&sample.pixels);
                batch.token_targets.extend_from_slice(&sample.token_targets);
                batch.labels.push(*label);
            }
            Err(error) => batch.skipped.push((path.clone(), error.to_string())),
        }
    }
    batch
}

/// The source of randomness of one look at one picture in one epoch.
fn rng(seed: u64, epoch: usize, picture: usize, repeat: usize) -> StdRng {
    let mut bytes = [0; 32];
    let keys = [seed, epoch as u64, picture as u64, repeat as u64];
    for (place, key) in bytes.chunks_exact_mut(8).zip(keys) {
        place.copy_from_slice(&key.to_le_bytes());
    }
    StdRng::from_seed(bytes)
}
