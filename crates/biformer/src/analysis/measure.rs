//! Warm-up, samples, statistics: what every benchmark does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use biformer_ops::profile::{self, Class};
use biformer_ops::{instruction_set, is_cpu, peak_gflops};
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
    /// Timed runs.
    pub runs: usize,
    /// Median time of a run.
    pub median_ms: f64,
    /// Nine of ten runs took no longer.
    pub p90_ms: f64,
    /// By the median.
    pub images_per_second: f64,
    /// The most memory that the process ever held, in MiB; only Linux tells.
    pub peak_rss_mb: Option<f64>,
    /// 10⁹ operations a second by the median; a multiply-accumulate counts as two, and a training
    /// step as three forward passes.
    pub gflops: f64,
    /// What the threads reach with multiply-adds on registers alone; only for the CPU.
    pub peak_gflops: Option<f64>,
    /// The vector instructions in use; only for the CPU.
    pub instruction_set: Option<&'static str>,
    /// The slowest operators first, then all that is in none; empty unless asked for.
    pub profile: Vec<OperatorTime>,
}

impl Measurement {
    /// Share of the peak.
    pub fn peak_fraction(&self) -> Option<f64> {
        self.peak_gflops.map(|peak| self.gflops / peak)
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
    /// 10⁹ operations a second, where they are known.
    pub gflops: Option<f64>,
}

/// What one run computes.
pub(super) struct Work {
    /// Of the forward pass for one picture.
    pub costs: Vec<LayerCost>,
    /// Forward passes that a run costs: 1, or 3 with the backward pass.
    pub passes: usize,
}

impl Work {
    /// Operations for one picture of the layers of some classes.
    fn operations(&self, counts: impl Fn(Class) -> bool) -> f64 {
        let layers = self.costs.iter().filter(|layer| counts(layer.class));
        2.0 * (self.passes * layers.map(|layer| layer.macs).sum::<usize>()) as f64
    }
}

/// Runs, times and counts; `None` if `stop` was set.
pub(super) fn measure(
    options: &Benchmark,
    work: &Work,
    stop: &AtomicBool,
    mut run: impl FnMut() -> Result<()>,
) -> Result<Option<Measurement>> {
    let Benchmark { batch_size, threads, device, .. } = options;
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
    samples.sort_by(f64::total_cmp);
    let median_ms = quantile(&samples, 0.5);
    let peak_rss_mb = peak_rss_mb();
    let profile = match options.profile {
        true => record(options, work, &mut run)?,
        false => Vec::new(),
    };
    let on_cpu = is_cpu(device);
    Ok(Some(Measurement {
        runs: samples.len(),
        median_ms,
        p90_ms: quantile(&samples, 0.9),
        images_per_second: *batch_size as f64 / median_ms * 1e3,
        peak_rss_mb,
        gflops: work.operations(|_| true) * *batch_size as f64 / median_ms / 1e6,
        peak_gflops: on_cpu.then(|| peak_gflops(*threads)),
        instruction_set: on_cpu.then(instruction_set),
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

/// Runs with the recorder of the operators on.
fn record(
    options: &Benchmark,
    work: &Work,
    run: &mut impl FnMut() -> Result<()>,
) -> Result<Vec<OperatorTime>> {
    let Benchmark { batch_size, runs, device, .. } = options;
    let mut total = 0.0;
    profile::start();
    for _ in 0..*runs {
        total += timed(device, run)? / *runs as f64;
    }
    let entries = profile::report();
    let row = |class: Class, calls: u64, ms: f64| {
        let operations = work.operations(|other| other == class) * *batch_size as f64;
        // Not all backward passes are recorded with their operator.
        let known = work.passes == 1 && operations > 0.0 && class != Class::Other;
        let gflops = known.then(|| operations / ms / 1e6);
        OperatorTime { class, calls, ms, share: ms / total, gflops }
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
    Ok(rows)
}

/// The number below which a share `q` of the sorted samples lies; linear between neighbours.
pub(super) fn quantile(samples: &[f64], q: f64) -> f64 {
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
    pub(super) fn quantiles_lie_between_neighbours() {
        let samples = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|q| quantile(&samples, q)), [1.0, 3.0, 5.0, 8.0]);
        assert_eq!(quantile(&[5.0], 0.9), 5.0);
    }
}
