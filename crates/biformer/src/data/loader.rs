//! Batches of pictures, decoded and transformed on worker threads while the model computes.
//!
//! The content of a batch depends on seed, epoch and position alone, never on the number of
//! threads, so that a run that is interrupted can go on exactly where it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::workers::{Epoch, Loaded, Loading, Part, View, Viewed};
use super::{Picture, RgbImage, Shard};
use crate::Result;

/// What a data set lists and a thread reads: a picture, with what is known of it.
pub trait Example: Send + Sync + 'static {
    /// What its files hold.
    type Decoded;

    /// Names it in messages.
    fn path(&self) -> &Path;

    /// Reads its files.
    fn decode(&self) -> Result<Self::Decoded>;

    /// What those in a shuffled batch have in common, as far as they fill batches.
    fn group(&self) -> usize {
        0
    }
}

/// A picture with its class.
impl Example for (Picture, usize) {
    type Decoded = RgbImage;

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn decode(&self) -> Result<RgbImage> {
        self.0.decode()
    }
}

/// A batch of transformed pictures.
#[derive(Clone, Debug, Default)]
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
    /// Pictures of the whole batch: those of the other shards and those left out among them.
    pub of: usize,
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
pub struct DataLoader<E = (Picture, usize)> {
    /// What there is: each picture with its class, or with other truth.
    pub samples: Vec<E>,
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
    /// Threads that load; 0 is as many as compute, [`rayon::current_num_threads`].
    pub workers: usize,
    /// The part of every batch to load. All shards have the same number of batches, of the same
    /// pictures in the same order as one process with batches `size` times as large; a part of
    /// an incomplete batch may be empty.
    pub shard: Shard,
}

impl<E: Example> DataLoader<E> {
    /// The pictures in their order, each once.
    pub fn new(samples: Vec<E>, batch_size: usize) -> Self {
        Self {
            samples,
            batch_size,
            shuffle: false,
            seed: 0,
            aug_repeats: 1,
            workers: 0,
            shard: Shard::default(),
        }
    }

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

    /// What `transform` makes of the pictures of `epoch`, from batch number `first` on.
    pub fn load<T: Send + 'static>(
        self,
        epoch: usize,
        first: usize,
        transform: impl Fn(&E, &E::Decoded, &mut StdRng) -> Result<T> + Send + Sync + 'static,
    ) -> Loading<T> {
        let views = self.order(epoch);
        let (mut order, mut parts) = (Vec::new(), Vec::new());
        for whole in views.chunks(self.whole_batch()).take(self.batches()) {
            let start = order.len();
            order.extend(self.shard.places(whole.len()).into_iter().map(|place| whole[place]));
            parts.push(Part { views: start..order.len(), of: whole.len() });
        }
        let workers = self.workers;
        let read = Box::new(move |views: &[View]| self.read(views, epoch, &transform));
        Loading::start(Epoch { order, parts, workers, read }, first)
    }

    /// Views of one picture, decoded once.
    fn read<T>(
        &self,
        views: &[View],
        epoch: usize,
        transform: impl Fn(&E, &E::Decoded, &mut StdRng) -> Result<T>,
    ) -> Vec<Viewed<T>> {
        let example = &self.samples[views[0].picture];
        let decoded = example.decode();
        let look = |&View { picture, repeat }: &View| match &decoded {
            Ok(decoded) => {
                let mut rng = rng(self.seed, epoch, picture, repeat);
                transform(example, decoded, &mut rng).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let named = |reason| (example.path().to_owned(), reason);
        views.iter().map(|view| look(view).map_err(named)).collect()
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
        let views = views.take(self.samples.len()).collect();
        if self.shuffle { self.by_group(views) } else { views }
    }

    /// Batches of one group each in the order in which they are filled, then what is left of all groups.
    fn by_group(&self, views: Vec<View>) -> Vec<View> {
        let mut waiting: BTreeMap<usize, Vec<View>> = BTreeMap::new();
        let mut order = Vec::with_capacity(views.len());
        for view in views {
            let group = waiting.entry(self.samples[view.picture].group()).or_default();
            group.push(view);
            if group.len() == self.whole_batch() {
                order.append(group);
            }
        }
        order.extend(waiting.into_values().flatten());
        order
    }
}

impl DataLoader {
    /// The batches of `epoch` from number `first` on.
    pub fn epoch(self, epoch: usize, first: usize, transform: Box<Transform>) -> Batches {
        Batches(self.load(epoch, first, move |(picture, label), image, rng| {
            Ok((*label, transform(picture.path(), image, rng)?))
        }))
    }
}

/// The batches of one epoch in order.
pub struct Batches(Loading<(usize, Sample)>);

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.0.next().map(Batch::from)
    }
}

impl From<Loaded<(usize, Sample)>> for Batch {
    fn from(Loaded { samples, skipped, of }: Loaded<(usize, Sample)>) -> Self {
        let mut batch = Batch { skipped, of, ..Batch::default() };
        batch.pixels.reserve(samples.iter().map(|(_, sample)| sample.pixels.len()).sum());
        for (label, Sample { pixels, token_targets }) in samples {
            batch.pixels.extend_from_slice(&pixels);
            batch.token_targets.extend_from_slice(&token_targets);
            batch.labels.push(label);
        }
        batch
    }
}

/// The source of randomness of one look at one picture in one epoch.
pub(super) fn rng(seed: u64, epoch: usize, picture: usize, repeat: usize) -> StdRng {
    let mut bytes = [0; 32];
    let keys = [seed, epoch as u64, picture as u64, repeat as u64];
    for (place, key) in bytes.chunks_exact_mut(8).zip(keys) {
        place.copy_from_slice(&key.to_le_bytes());
    }
    StdRng::from_seed(bytes)
}
