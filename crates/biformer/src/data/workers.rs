//! Threads that load the pictures of an epoch, ahead of whoever takes the batches.
//!
//! Each takes the next picture of the order, whichever batch it belongs to, so that no thread waits
//! for the end of a batch. They are not Rayon's: a thread that waits for a picture must not be the
//! one that would load it.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

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
pub(super) struct Epoch<T> {
    pub order: Vec<View>,
    /// One for each batch, in order.
    pub parts: Vec<Part>,
    /// Threads; 0 is as many as compute.
    pub workers: usize,
    /// Reads views of one picture.
    pub read: Box<Read<T>>,
}

type Read<T> = dyn Fn(&[View]) -> Vec<Viewed<T>> + Send + Sync;

/// What became of a view; or of which picture nothing did, and why.
pub(super) type Viewed<T> = Result<T, (PathBuf, String)>;

/// What was loaded of a batch.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// What became of the pictures that could be read, in order.
    pub samples: Vec<T>,
    /// Pictures left out because they cannot be decoded, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// Pictures of the whole batch: those of the other shards and those left out among them.
    pub of: usize,
}

/// The batches of one epoch in order, as threads load them.
pub struct Loading<T> {
    shared: Arc<Shared<T>>,
    next: usize,
}

struct Shared<T> {
    epoch: Epoch<T>,
    progress: Mutex<Progress<T>>,
    /// A batch was taken, or no more will be.
    room: Condvar,
    /// A picture was loaded.
    loaded: Condvar,
}

struct Progress<T> {
    /// The first view that nobody has begun to load.
    next_view: usize,
    /// Views loaded and not yet taken.
    loaded: HashMap<usize, Viewed<T>>,
    /// The first batch that was not taken.
    next_batch: usize,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
}

impl<T: Send + 'static> Loading<T> {
    /// Starts the threads.
    pub(super) fn start(epoch: Epoch<T>, first: usize) -> Self {
        let workers = match epoch.workers {
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

impl<T> Iterator for Loading<T> {
    type Item = Loaded<T>;

    fn next(&mut self) -> Option<Loaded<T>> {
        let part = self.shared.epoch.parts.get(self.next)?;
        let mut batch = Loaded { samples: Vec::new(), skipped: Vec::new(), of: part.of };
        for viewed in self.shared.take_batch(part.views.clone()) {
            match viewed {
                Ok(sample) => batch.samples.push(sample),
                Err(skipped) => batch.skipped.push(skipped),
            }
        }
        self.next += 1;
        Some(batch)
    }
}

impl<T> Drop for Loading<T> {
    fn drop(&mut self) {
        if let Ok(mut progress) = self.shared.progress.lock() {
            progress.stopped = true;
        }
        self.shared.room.notify_all();
    }
}

impl<T> Shared<T> {
    /// What a thread does.
    fn work(&self) {
        while let Some(views) = self.next_views() {
            let Epoch { order, read, .. } = &self.epoch;
            let result = catch_unwind(AssertUnwindSafe(|| read(&order[views.clone()])));
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
    fn take_batch(&self, views: Range<usize>) -> Vec<Viewed<T>> {
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

    fn progress(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().expect(HELD)
    }
}

const HELD: &str = "nothing panics while the progress is held";
