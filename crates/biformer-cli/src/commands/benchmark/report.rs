//! Results as rows for scripts and as tables for persons.

use biformer::analysis::{Latency, LoaderMeasurement, Measurement, OperatorTime, Roofs};
use serde::Serialize;
use serde_json::Value;

use crate::commands::plural;
use crate::progress::say;

/// One case: a line of `benchmark.csv`, and the JSON object. What a bench does not measure is empty.
///
/// `samples_per_sec`, `step_time` (mean, in milliseconds), `param_count` (in millions) and `gmacs`
/// are as timm's benchmark has them.
#[derive(Default, Serialize)]
pub(super) struct Row {
    pub bench: String,
    pub model: Option<String>,
    pub method: Option<String>,
    pub crop_size: Option<usize>,
    pub stride: Option<usize>,
    pub data: Option<String>,
    pub images: Option<usize>,
    pub batch_size: usize,
    pub img_size: Value,
    pub threads: usize,
    pub precision: String,
    pub device: String,
    pub instruction_set: Option<&'static str>,
    pub dim: Option<usize>,
    pub num_heads: Option<usize>,
    pub n_win: Option<usize>,
    pub topk: Option<usize>,
    pub runs: usize,
    pub min_ms: f64,
    pub median_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub images_per_second: f64,
    pub step_time: f64,
    pub samples_per_sec: f64,
    pub peak_rss_mb: Option<f64>,
    pub param_count: Option<f64>,
    pub gmacs: Option<f64>,
    pub gflops: Option<f64>,
    pub peak_gflops: Option<f64>,
    pub peak_fraction: Option<f64>,
    pub gbytes_per_second: Option<f64>,
    pub peak_gbytes_per_second: Option<f64>,
}

impl Row {
    pub fn with(self, measured: &Measurement) -> Self {
        Self {
            instruction_set: measured.instruction_set,
            images_per_second: measured.images_per_second,
            peak_rss_mb: measured.peak_rss_mb,
            param_count: Some(measured.params as f64 / 1e6),
            gmacs: Some(measured.macs as f64 / 1e9),
            gflops: Some(measured.gflops),
            gbytes_per_second: Some(measured.gbytes_per_second),
            ..self.with_latency(&measured.latency)
        }
    }

    pub fn with_loader(self, measured: &LoaderMeasurement) -> Self {
        Self {
            images_per_second: measured.images_per_second,
            peak_rss_mb: measured.peak_rss_mb,
            ..self.with_latency(&measured.latency)
        }
    }

    fn with_latency(self, latency: &Latency) -> Self {
        let Latency { runs, min_ms, mean_ms, median_ms, p90_ms, p99_ms } = *latency;
        let samples_per_sec = self.batch_size as f64 / mean_ms * 1e3;
        Self {
            runs,
            min_ms,
            median_ms,
            p90_ms,
            p99_ms,
            step_time: mean_ms,
            samples_per_sec,
            ..self
        }
    }

    pub fn set_roofs(&mut self, roofs: Option<&Roofs>) {
        self.peak_gflops = roofs.map(|roofs| roofs.gflops);
        self.peak_gbytes_per_second = roofs.map(|roofs| roofs.gbytes_per_second);
        self.peak_fraction =
            self.gflops.zip(self.peak_gflops).map(|(reached, peak)| reached / peak);
    }

    /// What differs between the cases of a run.
    pub fn title(&self) -> String {
        let method = self.method.as_ref().map(|method| format!("{method} on "));
        let method = method.unwrap_or_default();
        format!("{method}{}, batch {}, {}", self.subject(), self.batch_size, self.sides())
    }

    fn subject(&self) -> &str {
        self.model.as_deref().unwrap_or(&self.bench)
    }

    /// What is the same for all cases of a run.
    fn task(&self) -> String {
        let bench = &self.bench;
        match (&self.method, self.crop_size.zip(self.stride)) {
            (None, _) => bench.clone(),
            (Some(method), None) => format!("{bench} of {method}"),
            (Some(method), Some((crop_size, stride))) => {
                format!("{bench} of {method}, windows of {crop_size} every {stride}")
            }
        }
    }

    /// `224 × 224`
    fn sides(&self) -> String {
        match &self.img_size {
            Value::String(sides) => sides.replace('x', " × "),
            side => format!("{side} × {side}"),
        }
    }
}

/// One class of operators in one case: a line of `roofline.csv`, and of `detail` in the JSON object.
#[derive(Clone, Serialize)]
pub(super) struct DetailRow {
    model: Option<String>,
    batch_size: usize,
    img_size: Value,
    operator: String,
    calls: u64,
    ms: f64,
    share: f64,
    pub gflops: Option<f64>,
    gbytes_per_second: Option<f64>,
    flop_per_byte: Option<f64>,
    bound_fraction: Option<f64>,
}

pub(super) fn details(row: &Row, measured: &Measurement, roofs: Option<&Roofs>) -> Vec<DetailRow> {
    let detail = |time: &OperatorTime| DetailRow {
        model: row.model.clone(),
        batch_size: row.batch_size,
        img_size: row.img_size.clone(),
        operator: time.class.to_string(),
        calls: time.calls,
        ms: time.ms,
        share: time.share,
        gflops: time.speed.map(|speed| speed.gflops),
        gbytes_per_second: time.speed.map(|speed| speed.gbytes_per_second),
        flop_per_byte: time.speed.map(|speed| speed.intensity()),
        bound_fraction: time.speed.zip(roofs).map(|(speed, roofs)| roofs.fraction(speed)),
    };
    measured.profile.iter().map(detail).collect()
}

/// The table of a case alone.
pub(super) fn show(row: &Row) {
    let line = |name: &str, value: Option<f64>, unit: &str, note: String| {
        if let Some(value) = value {
            say(format!("{name:<16} {value:>10.3} {unit:<8} {note}").trim_end());
        }
    };
    let task = if row.model.is_some() { format!("{}, ", row.task()) } else { String::new() };
    say(format!(
        "{}, {task}batch {}, {}, {}, {}{}",
        row.subject(),
        row.batch_size,
        row.sides(),
        plural(row.threads, "thread"),
        row.precision,
        row.instruction_set.map(|set| format!(", {set}")).unwrap_or_default()
    ));
    let none = String::new;
    line("median", Some(row.median_ms), "ms", format!("of {}", plural(row.runs, "run")));
    line("90th percentile", Some(row.p90_ms), "ms", none());
    line("99th percentile", Some(row.p99_ms), "ms", none());
    line("fastest", Some(row.min_ms), "ms", none());
    line("speed", Some(row.images_per_second), "images/s", none());
    line("peak memory", row.peak_rss_mb, "MiB", none());
    let of = |reached: Option<f64>, peak: Option<f64>, what: &str| {
        let note = reached.zip(peak).map(|(reached, peak)| {
            format!("{:.1} % of the measured {what} of {peak:.1}", 100.0 * reached / peak)
        });
        note.unwrap_or_default()
    };
    line("arithmetic", row.gflops, "GFLOP/s", of(row.gflops, row.peak_gflops, "peak"));
    let bandwidth = of(row.gbytes_per_second, row.peak_gbytes_per_second, "bandwidth");
    line("traffic", row.gbytes_per_second, "GB/s", bandwidth);
}

/// A case of several, as soon as it is measured.
pub(super) fn show_line(row: &Row, is_first: bool) {
    if is_first {
        say(format!(
            "{}, {}, {}\n{:<18} {:>5} {:>11} {:>10} {:>10} {:>10} {:>10} {:>9} {:>8}",
            row.task(),
            plural(row.threads, "thread"),
            row.precision,
            "",
            "batch",
            "size",
            "median ms",
            "p90",
            "p99",
            "images/s",
            "GFLOP/s",
            "GB/s"
        ));
    }
    say(format!(
        "{:<18} {:>5} {:>11} {:>10.3} {:>10.3} {:>10.3} {:>10.1} {:>9} {:>8}",
        row.subject(),
        row.batch_size,
        row.sides(),
        row.median_ms,
        row.p90_ms,
        row.p99_ms,
        row.images_per_second,
        number(row.gflops, 1),
        number(row.gbytes_per_second, 2)
    ));
}

/// What the machine could do, which is the same for all cases.
pub(super) fn show_roofs(row: &Row) {
    if let Some((gflops, gbytes)) = row.peak_gflops.zip(row.peak_gbytes_per_second) {
        say(format!("{:<59} measured peak {gflops:>17.1} {gbytes:>8.2}", ""));
    }
}

pub(super) fn show_details(row: &Row, details: &[DetailRow]) {
    say(format!(
        "\n{}\n{:<22} {:>6} {:>10} {:>8} {:>9} {:>8} {:>10} {:>9}",
        row.title(),
        "operator",
        "calls",
        "ms",
        "share",
        "GFLOP/s",
        "GB/s",
        "FLOP/byte",
        "of bound"
    ));
    for detail in details {
        let calls = if detail.calls == 0 { "–".to_owned() } else { detail.calls.to_string() };
        let bound = detail.bound_fraction.map(|fraction| format!("{:.1} %", 100.0 * fraction));
        say(format!(
            "{:<22} {calls:>6} {:>10.3} {:>6.1} % {:>9} {:>8} {:>10} {:>9}",
            detail.operator,
            detail.ms,
            100.0 * detail.share,
            number(detail.gflops, 1),
            number(detail.gbytes_per_second, 2),
            number(detail.flop_per_byte, 1),
            bound.as_deref().unwrap_or("–")
        ));
    }
}

/// A dash for what is not known.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}
