//! The roofline (Williams, Waterman and Patterson, 2009): what operators reach, below what arithmetic and
//! memory allow.

use biformer_ops::{is_cpu, memory_bandwidth, peak_gflops};
use image::RgbImage;

use super::{Benchmark, Measurement, Speed};
use crate::visualize::{LogChart, LogSeries, Mark, draw_log_charts};

/// The most that some threads can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofs {
    /// 10⁹ operations a second, by float32 multiply-adds on registers alone.
    pub gflops: f64,
    /// 10⁹ bytes a second, to and from memory.
    pub gbytes_per_second: f64,
}

impl Roofs {
    /// Measured with the threads of `options`; `None` if the device is not the CPU.
    ///
    /// Takes half a second, and more memory than a model: measure that first.
    pub fn measure(options: &Benchmark) -> Option<Self> {
        let Benchmark { threads, device, .. } = options;
        is_cpu(device).then(|| Self {
            gflops: peak_gflops(*threads),
            gbytes_per_second: memory_bandwidth(*threads),
        })
    }

    /// 10⁹ operations a second for an operator with so many operations a byte, whose maps come from
    /// memory.
    pub fn bound(&self, intensity: f64) -> f64 {
        self.gflops.min(self.gbytes_per_second * intensity)
    }

    /// Share of the bound. Above 1 if maps come from a cache, which is faster than the memory.
    pub fn fraction(&self, speed: Speed) -> f64 {
        speed.gflops / self.bound(speed.intensity())
    }
}

/// A panel for each measurement, with its title: the roofs, and a point for each class of operators
/// that was recorded.
///
/// # Panics
/// If there are no measurements.
pub fn draw_rooflines(measurements: &[(&str, &Measurement)], roofs: &Roofs) -> RgbImage {
    let charts = measurements.iter().map(|(title, measured)| chart(title, measured, roofs));
    draw_log_charts(&charts.collect::<Vec<_>>())
}

fn chart(title: &str, measured: &Measurement, roofs: &Roofs) -> LogChart {
    let known = measured.profile.iter().filter_map(|row| Some((row.class, row.speed?)));
    let dots = known.enumerate().map(|(number, (class, speed))| LogSeries {
        name: class.to_string(),
        points: vec![(speed.intensity(), speed.gflops)],
        mark: Mark::Dots,
        color: number,
    });
    let dots: Vec<LogSeries> = dots.collect();
    let ridge = roofs.gflops / roofs.gbytes_per_second;
    let intensities = || dots.iter().map(|series| series.points[0].0).chain([ridge]);
    let first = intensities().fold(f64::INFINITY, f64::min) / 2.0;
    let last = intensities().fold(0.0, f64::max) * 2.0;
    let roof = LogSeries {
        name: format!("{:.0} GFLOP/s, {:.0} GB/s", roofs.gflops, roofs.gbytes_per_second),
        points: [first, ridge, last].map(|at| (at, roofs.bound(at))).to_vec(),
        mark: Mark::Line,
        color: 7, // grey
    };
    LogChart {
        title: title.to_owned(),
        x: "FLOP/byte",
        y: "GFLOP/s",
        series: std::iter::once(roof).chain(dots).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_bounds_the_left_and_arithmetic_the_right() {
        let roofs = Roofs { gflops: 100.0, gbytes_per_second: 20.0 };
        assert_eq!([0.5, 5.0, 50.0].map(|at| roofs.bound(at)), [10.0, 100.0, 100.0]);
        let copying = Speed { gflops: 5.0, gbytes_per_second: 10.0 };
        let computing = Speed { gflops: 80.0, gbytes_per_second: 2.0 };
        assert_eq!([copying, computing].map(|speed| roofs.fraction(speed)), [0.5, 0.8]);
    }
}
