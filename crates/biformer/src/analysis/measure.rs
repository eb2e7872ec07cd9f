//! Warm-up, samples, statistics: what every benchmark does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use biformer_ops::profile::{self, Class};
use biformer_ops::{instruction_set, is_cpu};
use burn::tensor::Device;

use super::{Benchmark, LayerCost};
use crate::{Error, Result};

/// Samples are taken until they fill this time …
pub(super) const ENOUGH: Duration = Duration::from_secs(1);
/// … or are this many, if more were not asked for.
pub(super) const MOST: usize = 1000;

/// What a benchmark found.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The time of a run.
    pub latency: Latency,
    /// By the median.
    pub images_per_second: f64,
    /// The most memory that the process ever held, in MiB; only Linux tells.
    pub peak_rss_mb: Option<f64>,
    /// Trained numbers.
    pub params: usize,
    /// Multiply-accumulates of a forward pass for one picture.
    pub macs: usize,
    /// 10⁹ operations a second by the median; a multiply-accumulate counts as two, and a training
    /// step as three forward passes.
    pub gflops: f64,
    /// 10⁹ bytes a second by the median: those that no program can save, see [`LayerCost::bytes`];
    /// a training step counts as three forward passes, as each product of its backward pass reads
    /// and writes the same three arrays.
    pub gbytes_per_second: f64,
    /// The vector instructions in use; only for the CPU.
    pub instruction_set: Option<&'static str>,
    /// The slowest operators first, then all that is in none; empty unless asked for.
    pub profile: Vec<OperatorTime>,
}

/// Statistics of the timed runs, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Timed runs.
    pub runs: usize,
    /// The fastest run.
    pub min_ms: f64,
    /// All the time over all runs.
    pub mean_ms: f64,
    /// Half of the runs took no longer.
    pub median_ms: f64,
    /// Nine of ten runs took no longer.
    pub p90_ms: f64,
    /// 99 of 100 runs took no longer; of fewer than 100 runs, between the two slowest.
    pub p99_ms: f64,
}

impl Latency {
    /// Of at least one sample.
    pub(super) fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let quantile = |q| quantile(&samples, q);
        Self {
            runs: samples.len(),
            min_ms: samples[0],
            mean_ms: samples.iter().sum::<f64>() / samples.len() as f64,
            median_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
        }
    }
}

/// What one class of operators took of a run.
#[derive(Clone, Copy, Debug)]
pub struct OperatorTime {
    /// The operators.
    pub class: Class,
    /// Calls a run.
    pub calls: u64,
    /// Mean time a run.
    pub ms: f64,
    /// Of the time of the run.
    pub share: f64,
    /// How much it computes and moves, where that is known.
    pub speed: Option<Speed>,
}

/// Where operators stand in a roofline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// 10⁹ operations a second.
    pub gflops: f64,
    /// 10⁹ bytes a second, see [`LayerCost::bytes`].
    pub gbytes_per_second: f64,
}

impl Speed {
    /// Operations for each byte.
    pub fn intensity(&self) -> f64 {
        self.gflops / self.gbytes_per_second
    }
}

/// What one run computes.
pub(super) struct Work {
    /// Of the forward pass for one picture.
    pub costs: Vec<LayerCost>,
    /// Forward passes that a run costs: 1, or 3 with the backward pass.
    pub passes: usize,
}

impl Work {
    /// The layers of some classes, in runs of `ms` milliseconds.
    fn speed(&self, options: &Benchmark, ms: f64, counts: impl Fn(Class) -> bool) -> Speed {
        let Benchmark { batch_size, precision, .. } = *options;
        let layers = || self.costs.iter().filter(|layer| counts(layer.class));
        let rate = |count: usize| (self.passes * count) as f64 / ms / 1e6;
        Speed {
            gflops: rate(2 * batch_size * layers().map(|layer| layer.macs).sum::<usize>()),
            gbytes_per_second: rate(layers().map(|layer| layer.bytes(batch_size, precision)).sum()),
        }
    }
}

/// Runs, times and counts; `None` if `stop` was set.
pub(super) fn measure(
    options: &Benchmark,
    work: &Work,
    stop: &AtomicBool,
    mut run: impl FnMut() -> Result<()>,
) -> Result<Option<Measurement>> {
    let Benchmark { batch_size, device, .. } = options;
    let stopped = || stop.load(Ordering::Relaxed);
    for _ in 0..options.warmup {
        if stopped() {
            return Ok(None);
        }
        timed(device, &mut run)?;
    }
    let mut samples = Vec::new();
    let start = Instant::now();
    while samples.len() < options.runs || (samples.len() < MOST && start.elapsed() < ENOUGH) {
        if stopped() {
            return Ok(None);
        }
        samples.push(timed(device, &mut run)?);
    }
    let latency = Latency::of(samples);
    let peak_rss_mb = peak_rss_mb();
    let Some(profile) = record(options, work, stop, &mut run)? else { return Ok(None) };
    let speed = work.speed(options, latency.median_ms, |_| true);
    Ok(Some(Measurement {
        latency,
        images_per_second: *batch_size as f64 / latency.median_ms * 1e3,
        peak_rss_mb,
        params: work.costs.iter().map(|layer| layer.params).sum(),
        macs: work.costs.iter().map(|layer| layer.macs).sum(),
        gflops: speed.gflops,
        gbytes_per_second: speed.gbytes_per_second,
        instruction_set: is_cpu(device).then(instruction_set),
        profile,
    }))
}

/// Milliseconds of one run.
fn timed(device: &Device, run: &mut impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    device.sync().map_err(|error| Error::option("device", error))?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Runs with the recorder of the operators on, if that is asked for; `None` if `stop` was set.
fn record(
    options: &Benchmark,
    work: &Work,
    stop: &AtomicBool,
    run: &mut impl FnMut() -> Result<()>,
) -> Result<Option<Vec<OperatorTime>>> {
    let Benchmark { runs, device, .. } = options;
    if !options.profile {
        return Ok(Some(Vec::new()));
    }
    let mut total = 0.0;
    profile::start();
    for _ in 0..*runs {
        if stop.load(Ordering::Relaxed) {
            profile::report();
            return Ok(None);
        }
        total += timed(device, run)? / *runs as f64;
    }
    let entries = profile::report();
    let row = |class: Class, calls: u64, ms: f64| {
        // Not all backward passes are recorded with their operator.
        let known = work.passes == 1 && class != Class::Other;
        let speed = known.then(|| work.speed(options, ms, |other| other == class));
        let speed = speed.filter(|speed| speed.gflops > 0.0);
        OperatorTime { class, calls, ms, share: ms / total, speed }
    };
    let (mut rows, mut rest, mut rest_calls) = (Vec::new(), total, 0);
    for entry in entries {
        let (calls, ms) =
            (entry.calls / *runs as u64, entry.time.as_secs_f64() * 1e3 / *runs as f64);
        if entry.class == Class::Other {
            rest_calls = calls;
        } else {
            rest -= ms;
            rows.push(row(entry.class, calls, ms));
        }
    }
    rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    rows.push(row(Class::Other, rest_calls, rest));
    Ok(Some(rows))
}

/// The number below which a share `q` of the sorted samples lies; linear between neighbours.
fn quantile(samples: &[f64], q: f64) -> f64 {
    let place = q * (samples.len() - 1) as f64;
    let (low, high) = (samples[place.floor() as usize], samples[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// The resident set of the process at its largest, in MiB.
pub(super) fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let samples = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|q| quantile(&samples, q)), [1.0, 3.0, 5.0, 8.0]);
        assert_eq!(quantile(&[5.0], 0.9), 5.0);
    }

    #[test]
    fn statistics_need_no_order() {
        let samples: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let latency = Latency::of(samples);
        let Latency { runs, min_ms, mean_ms, median_ms, p90_ms, p99_ms } = latency;
        assert_eq!((runs, min_ms, mean_ms), (101, 0.0, 50.0));
        assert_eq!([median_ms, p90_ms, p99_ms], [50.0, 90.0, 99.0]);
    }

    /// A linear layer of 4 to 6 channels with a bias, on 10 positions, and a product.
    #[test]
    fn a_batch_shares_the_weights() {
        let cost = |class, params, macs, map_numbers| LayerCost {
            name: String::new(),
            class,
            params,
            macs,
            map_numbers,
        };
        let linear = cost(Class::Linear, 30, 240, 100);
        let costs = vec![linear, cost(Class::Routing, 0, 1000, 50)];
        let options = Benchmark { batch_size: 3, ..Benchmark::default() };
        let speed = |passes, counts: fn(Class) -> bool| {
            Work { costs: costs.clone(), passes }.speed(&options, 0.5, counts)
        };
        let linear = speed(1, |class| class == Class::Linear);
        // 2 · 3 · 240 operations, 4 · (30 + 3 · 100) bytes
        assert_eq!((linear.gflops, linear.gbytes_per_second), (2.88e-3, 2.64e-3));
        assert!((linear.intensity() - 1440.0 / 1320.0).abs() < 1e-12); // rounding
        let training = speed(3, |_| true);
        assert_eq!((training.gflops, training.gbytes_per_second), (44.64e-3, 11.52e-3));
    }
}
