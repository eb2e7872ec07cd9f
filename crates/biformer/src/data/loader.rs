//! Batches of pictures, decoded and transformed on worker threads while the model computes.
//!
//! The content of a batch depends on seed, epoch and position alone, never on the number of
//! threads, so that a run that is interrupted can go on exactly where it was.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::image::decode;
use super::{RgbImage, Shard};
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
    /// Pictures left out because they cannot be decoded, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// Pictures of the whole batch: those of the other shards and those left out among them.
    pub of: usize,
}

/// From a picture and its own source of randomness to `[3, height, width]` numbers.
pub type Transform = dyn Fn(&RgbImage, &mut StdRng) -> Vec<f32> + Send + Sync;

/// Pictures in batches, epoch after epoch.
#[derive(Clone, Debug)]
pub struct DataLoader {
    /// Path and class of each picture.
    pub samples: Vec<(PathBuf, usize)>,
    /// Pictures in a batch, or in the shard's part of it.
    pub batch_size: usize,
    /// Whether the order is shuffled by seed and epoch, and an incomplete last batch left out
    /// (unless it is the only one).
    pub shuffle: bool,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Repeated augmentation (Hoffer et al., 2020): every picture comes this often in a row, each
    /// time augmented anew, and the epoch ends after as many pictures as without. 1 or 0 is off.
    pub aug_repeats: usize,
    /// The part of every batch to load. All shards have the same number of batches, of the same
    /// pictures in the same order as one process with batches `size` times as large; a part of
    /// an incomplete batch may be empty.
    pub shard: Shard,
}

impl DataLoader {
    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        let full = self.samples.len() / self.whole_batch();
        if self.shuffle && full > 0 {
            full
        } else {
            self.samples.len().div_ceil(self.whole_batch())
        }
    }

    /// Pictures in a batch over all shards.
    fn whole_batch(&self) -> usize {
        self.batch_size * self.shard.size
    }

    /// The batches of `epoch` from number `first` on.
    pub fn epoch(self, epoch: usize, first: usize, transform: Box<Transform>) -> Batches {
        let (sender, receiver) = sync_channel(PREFETCH);
        let order = self.order(epoch);
        let worker = thread::spawn(move || {
            let batches = order.chunks(self.whole_batch()).take(self.batches()).skip(first);
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

/// The shard's part of the whole batch `views`.
fn load_batch(loader: &DataLoader, views: &[View], epoch: usize, transform: &Transform) -> Batch {
    let of = views.len();
    let views: Vec<View> = loader.shard.places(of).into_iter().map(|place| views[place]).collect();
    let load = |&View { picture, repeat }: &View| -> Result<Vec<f32>> {
        let image = decode(&loader.samples[picture].0)?;
        Ok(transform(&image, &mut rng(loader.seed, epoch, picture, repeat)))
    };
    let pictures: Vec<_> = views.par_iter().map(load).collect();
    let mut batch = Batch { pixels: Vec::new(), labels: Vec::new(), skipped: Vec::new(), of };
    for (view, pixels) in views.iter().zip(pictures) {
        let (path, label) = &loader.samples[view.picture];
        match pixels {
            Ok(pixels) => {
                batch.pixels.extend_from_slice(&pixels);
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
