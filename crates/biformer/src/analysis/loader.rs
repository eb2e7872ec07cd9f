//! Speed of the loader alone: how many pictures a second the model could be given.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::measure::{ENOUGH, MOST, peak_rss_mb};
use super::{Benchmark, Latency};
use crate::data::{DataLoader, TrainTransform};
use crate::{Error, Result};

/// What [`loader`] found.
#[derive(Clone, Debug)]
pub struct LoaderMeasurement {
    /// The time from one batch to the next.
    pub latency: Latency,
    /// Over all timed batches: they come in bursts, so that the median would not tell.
    pub images_per_second: f64,
    /// The most memory that the process ever held, in MiB; only Linux tells.
    pub peak_rss_mb: Option<f64>,
}

/// Reads, decodes and transforms the pictures of `loader`, epoch after epoch, and throws them away;
/// `None` if `stop` was set.
///
/// Of `options`, the number of runs and of those before them count; the rest is said by `loader`.
///
/// # Errors
/// [`Error::Dataset`](crate::Error::Dataset) if there is no picture, or one of them cannot be decoded.
pub fn loader(
    loader: &DataLoader,
    transform: TrainTransform,
    options: &Benchmark,
    stop: &AtomicBool,
) -> Result<Option<LoaderMeasurement>> {
    options.check_for_model()?;
    if loader.samples.is_empty() {
        return Err(Error::option("data", "holds no pictures"));
    }
    let mut batches = (0..).flat_map(|epoch| {
        let transform =
            Box::new(move |_: &_, image: &_, rng: &mut _| Ok(transform.apply(image, rng).into()));
        loader.clone().epoch(epoch, 0, transform)
    });
    let mut samples = Vec::new();
    let mut images = 0;
    let mut warmup = options.warmup;
    let mut start = Instant::now();
    let mut last = start;
    while samples.len() < options.runs || (samples.len() < MOST && start.elapsed() < ENOUGH) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batches.next().expect("epochs without end");
        // What is left out costs nothing: the speed would be a lie.
        if let Some((path, reason)) = batch.skipped.first() {
            return Err(Error::dataset(path, reason));
        }
        let now = Instant::now();
        if warmup > 0 {
            warmup -= 1;
            start = now;
        } else {
            samples.push((now - last).as_secs_f64() * 1e3);
            images += batch.labels.len();
        }
        last = now;
    }
    let seconds = (last - start).as_secs_f64();
    Ok(Some(LoaderMeasurement {
        latency: Latency::of(samples),
        images_per_second: images as f64 / seconds,
        peak_rss_mb: peak_rss_mb(),
    }))
}
