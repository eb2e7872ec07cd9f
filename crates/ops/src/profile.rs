//! Where the time goes: calls and seconds of each class of operators, recorded when asked for.
//!
//! An operator opens a [`span`] on its first line; the time until its end goes to its class.
//! Operators on the CPU compute when they are called, so that this is all of their time. An
//! operator inside another one counts as part of it. There is one recorder a process; when it is
//! off, a span costs the load of a flag.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What an operator is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Class {
    Linear,
    Convolution,
    DepthwiseConv,
    LayerNorm,
    BatchNorm,
    RoutedAttention,
    GlobalAttention,
    Routing,
    Gelu,
    Resample,
    RoiAlign,
    /// All that has no class of its own.
    Other,
}

/// What the recorder saw of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The operators.
    pub class: Class,
    /// How often they were called, forward or backward.
    pub calls: u64,
    /// How long they took in all.
    pub time: Duration,
}

/// Clears the recorder and switches it on.
pub fn start() {
    for Counter { calls, nanoseconds } in &COUNTERS {
        calls.store(0, Ordering::Relaxed);
        nanoseconds.store(0, Ordering::Relaxed);
    }
    ENABLED.store(true, Ordering::Relaxed);
}

/// Switches the recorder off; the classes that were called since [`start`].
pub fn report() -> Vec<Entry> {
    ENABLED.store(false, Ordering::Relaxed);
    let entry = |class: Class| {
        let Counter { calls, nanoseconds } = &COUNTERS[class as usize];
        let time = Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        Entry { class, calls: calls.load(Ordering::Relaxed), time }
    };
    Class::ALL.map(entry).into_iter().filter(|entry| entry.calls > 0).collect()
}

/// Counts the time until it is dropped, if the recorder is on and no other span is open.
pub fn span(class: Class) -> Option<Span> {
    if !ENABLED.load(Ordering::Relaxed) || OPEN.replace(true) {
        return None;
    }
    Some(Span { class, start: Instant::now() })
}

/// An operator at work, see [`span`].
#[must_use = "it counts the time until it is dropped"]
#[derive(Debug)]
pub struct Span {
    class: Class,
    start: Instant,
}

impl Drop for Span {
    fn drop(&mut self) {
        let Counter { calls, nanoseconds } = &COUNTERS[self.class as usize];
        calls.fetch_add(1, Ordering::Relaxed);
        nanoseconds.fetch_add(self.start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        OPEN.set(false);
    }
}

impl Class {
    /// Every class, in the order of the enum.
    const ALL: [Self; 12] = [
        Self::Linear,
        Self::Convolution,
        Self::DepthwiseConv,
        Self::LayerNorm,
        Self::BatchNorm,
        Self::RoutedAttention,
        Self::GlobalAttention,
        Self::Routing,
        Self::Gelu,
        Self::Resample,
        Self::RoiAlign,
        Self::Other,
    ];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linear => "linear",
            Self::Convolution => "convolution",
            Self::DepthwiseConv => "depthwise convolution",
            Self::LayerNorm => "layer norm",
            Self::BatchNorm => "batch norm",
            Self::RoutedAttention => "routed attention",
            Self::GlobalAttention => "global attention",
            Self::Routing => "routing",
            Self::Gelu => "GELU",
            Self::Resample => "resampling",
            Self::RoiAlign => "RoIAlign",
            Self::Other => "other",
        })
    }
}

struct Counter {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
}

static ENABLED: AtomicBool = AtomicBool::new(false);

static COUNTERS: [Counter; Class::ALL.len()] =
    [const { Counter { calls: AtomicU64::new(0), nanoseconds: AtomicU64::new(0) } };
        Class::ALL.len()];

thread_local! {
    /// Whether this thread is within a span.
    static OPEN: Cell<bool> = const { Cell::new(false) };
}
