//! Threads that load the pictures of an epoch, ahead of whoever takes the batches.
//!
//! Each takes the next picture of the order, whichever batch it belongs to, so that no thread waits
//! for the end of a batch. They are not Rayon's: a thread that waits for a picture must not be the
//! one that would load it.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use super::loader::{Batch, DataLoader, Sample, Transform, rng};

/// Batches that wait ready, or are being loaded, while the model computes; more would only take memory.
const AHEAD: usize = 3;

/// One look at a picture.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// Position in the samples.
    pub picture: usize,
    /// Which of the looks at it in this epoch, from 0.
    pub repeat: usize,
}

/// What a process loads of a batch.
pub(super) struct Part {
    /// Places in the order.
    pub views: Range<usize>,
    /// Pictures of the batch over all processes.
    pub of: usize,
}

/// All that an epoch is made of.
pub(super) struct Epoch {
    pub loader: DataLoader,
    pub epoch: usize,
    pub order: Vec<View>,
    /// One for each batch, in order.
    pub parts: Vec<Part>,
    pub transform: Box<Transform>,
}

/// The batches of one epoch in order.
pub struct Batches {
    shared: Arc<Shared>,
    next: usize,
}

struct Shared {
    epoch: Epoch,
    progress: Mutex<Progress>,
    /// A batch was taken, or no more will be.
    room: Condvar,
    /// A picture was loaded.
    loaded: Condvar,
}

struct Progress {
    /// The first view that nobody has begun to load.
    next_view: usize,
    /// Views loaded and not yet taken.
    loaded: HashMap<usize, Loaded>,
    /// The first batch that was not taken.
    next_batch: usize,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
}

/// What became of a view, or why nothing did.
type Loaded = Result<Sample, String>;

impl Batches {
    /// Starts the threads.
    pub(super) fn start(epoch: Epoch, first: usize) -> Self {
        let workers = match epoch.loader.workers {
            0 => rayon::current_num_threads(),
            workers => workers,
        };
        let progress = Progress {
            next_view: epoch.parts.get(first).map_or(epoch.order.len(), |part| part.views.start),
            loaded: HashMap::new(),
            next_batch: first,
            stopped: false,
            panic: None,
        };
        let progress = Mutex::new(progress);
        let shared = Shared { epoch, progress, room: Condvar::new(), loaded: Condvar::new() };
        let shared = Arc::new(shared);
        for _ in 0..workers {
            let shared = shared.clone();
            thread::spawn(move || shared.work());
        }
        Self { shared, next: first }
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let part = self.shared.epoch.parts.get(self.next)?;
        let loaded = self.shared.take_batch(part.views.clone());
        self.next += 1;
        Some(self.shared.epoch.batch(part, loaded))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        if let Ok(mut progress) = self.shared.progress.lock() {
            progress.stopped = true;
        }
        self.shared.room.notify_all();
    }
}

impl Epoch {
    /// Views of one picture, decoded once.
    fn load(&self, views: Range<usize>) -> Vec<Loaded> {
        let Self { loader, epoch, order, transform, .. } = self;
        let (picture, _) = &loader.samples[order[views.start].picture];
        let (path, image) = (picture.path(), picture.decode());
        let look = |&View { picture, repeat }: &View| match &image {
            Ok(image) => {
                let mut rng = rng(loader.seed, *epoch, picture, repeat);
                transform(path, image, &mut rng).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        order[views].iter().map(look).collect()
    }

    fn batch(&self, part: &Part, loaded: Vec<Loaded>) -> Batch {
        let mut batch = Batch { of: part.of, ..Batch::default() };
        for (view, loaded) in self.order[part.views.clone()].iter().zip(loaded) {
            let (picture, label) = &self.loader.samples[view.picture];
            match loaded {
                Ok(Sample { pixels, token_targets }) => {
                    if batch.pixels.is_empty() {
                        batch.pixels.reserve(pixels.len() * part.views.len());
                    }
                    batch.pixels.extend_from_slice(&pixels);
                    batch.token_targets.extend_from_slice(&token_targets);
                    batch.labels.push(*label);
                }
                Err(reason) => batch.skipped.push((picture.path().to_owned(), reason)),
            }
        }
        batch
    }
}

impl Shared {
    /// What a thread does.
    fn work(&self) {
        while let Some(views) = self.next_views() {
            let result = catch_unwind(AssertUnwindSafe(|| self.epoch.load(views.clone())));
            let mut progress = self.progress();
            match result {
                Ok(loaded) => progress.loaded.extend(views.zip(loaded)),
                Err(panic) => progress.panic = Some(panic),
            }
            self.loaded.notify_all();
        }
    }

    /// The next picture to load: its views in a row, as far as they are in one batch.
    fn next_views(&self) -> Option<Range<usize>> {
        let Epoch { order, parts, .. } = &self.epoch;
        let mut progress = self.progress();
        loop {
            let start = progress.next_view;
            let batch = parts.partition_point(|part| part.views.end <= start);
            let part = parts.get(batch).filter(|_| !progress.stopped)?;
            if batch < progress.next_batch + AHEAD {
                let picture = order[start].picture;
                let end = (start..part.views.end).find(|&view| order[view].picture != picture);
                progress.next_view = end.unwrap_or(part.views.end);
                return Some(start..progress.next_view);
            }
            progress = self.room.wait(progress).expect(HELD);
        }
    }

    /// Waits for a batch.
    fn take_batch(&self, views: Range<usize>) -> Vec<Loaded> {
        let mut progress = self.progress();
        while !views.clone().all(|view| progress.loaded.contains_key(&view)) {
            // A thread that died must not pass for an epoch that has ended.
            if let Some(panic) = progress.panic.take() {
                drop(progress);
                resume_unwind(panic);
            }
            progress = self.loaded.wait(progress).expect(HELD);
        }
        progress.next_batch += 1;
        self.room.notify_all();
        views.filter_map(|view| progress.loaded.remove(&view)).collect()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect(HELD)
    }
}

const HELD: &str = "nothing panics while the progress is held";
