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
    /// Pictures left out because they cannot be decoded, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

/// From a picture and its own source of randomness to `[3, height, width]` numbers.
pub type Transform = dyn Fn(&RgbImage, &mut StdRng) -> Vec<f32> + Send + Sync;

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
        let mut order: Vec<usize> = (0..self.samples.len()).collect();
        if self.shuffle {
            order.shuffle(&mut rng(self.seed, epoch, usize::MAX));
        }
        let worker = thread::spawn(move || {
            let batches = order.chunks(self.batch_size).take(self.batches()).skip(first);
            for indices in batches {
                let batch = load_batch(&self, indices, epoch, &transform);
                if sender.send(batch).is_err() {
                    return; // nobody waits for it any more
                }
            }
        });
        Batches { receiver, worker: Some(worker) }
    }
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

fn load_batch(
    loader: &DataLoader,
    indices: &[usize],
    epoch: usize,
    transform: &Transform,
) -> Batch {
    let load = |&index: &usize| -> Result<Vec<f32>> {
        let image = decode(&loader.samples[index].0)?;
        Ok(transform(&image, &mut rng(loader.seed, epoch, index)))
    };
    let pictures: Vec<_> = indices.par_iter().map(load).collect();
    let mut batch = Batch { pixels: Vec::new(), labels: Vec::new(), skipped: Vec::new() };
    for (&index, picture) in indices.iter().zip(pictures) {
        let (path, label) = &loader.samples[index];
        match picture {
            Ok(pixels) => {
                batch.pixels.extend_from_slice(&pixels);
                batch.labels.push(*label);
            }
            Err(error) => batch.skipped.push((path.clone(), error.to_string())),
        }
    }
    batch
}

/// The source of randomness of one picture in one epoch.
fn rng(seed: u64, epoch: usize, index: usize) -> StdRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&(epoch as u64).to_le_bytes());
    bytes[16..24].copy_from_slice(&(index as u64).to_le_bytes());
    StdRng::from_seed(bytes)
}
