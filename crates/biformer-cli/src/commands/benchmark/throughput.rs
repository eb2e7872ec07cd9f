//! `biformer benchmark --bench throughput`: the figure of the supplement (part B).

use std::sync::atomic::AtomicBool;

use biformer::check_precision;
use biformer::visualize::{BarChart, draw_bar_charts, write_png};
use serde_json::json;

use super::report::{self, Row};
use super::{BenchmarkArgs, Done, case, name, options, print, shown, write_csv, write_json};
use crate::args::{Bench, Precision, PrecisionArgs};
use crate::device;
use crate::progress::say;

/// Those of the supplement's figure.
const MODELS: [&str; 3] = ["swin_tiny", "biformer_stl", "stl_quad_tree"];

/// What is measured, panel by panel.
const PANELS: [(Bench, Precision); 4] = [
    (Bench::Train, Precision::F32),
    (Bench::Train, Precision::Bf16),
    (Bench::Inference, Precision::F32),
    (Bench::Inference, Precision::Bf16),
];

pub(super) fn run(args: &BenchmarkArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let model = match &args.model[..] {
        [] => MODELS.map(str::to_owned).to_vec(),
        models => models.to_vec(),
    };
    let has_bf16 = check_precision(biformer::Precision::Bf16, &device::parse(&args.device.device)?);
    if let Err(error) = &has_bf16 {
        say(format!("mixed precision is left out: {error}"));
    }
    let is_possible = |panel: &(Bench, Precision)| panel.1 == Precision::F32 || has_bf16.is_ok();
    // All of them before any is measured: the last one should not fail after minutes.
    let mut panels = Vec::new();
    for (bench, precision) in PANELS.into_iter().filter(is_possible) {
        let precision = PrecisionArgs { precision };
        let args = BenchmarkArgs { bench, precision, model: model.clone(), ..args.clone() };
        let cases = case::all(&args, &options(&args)?)?;
        panels.push((args, cases));
    }
    let (mut rows, mut charts): (Vec<Row>, Vec<BarChart>) = (Vec::new(), Vec::new());
    for (args, cases) in &panels {
        let first = rows.len();
        for case in cases {
            let Some((row, _)) = case.measure(args, stop)? else {
                say("interrupted");
                return Ok(Done::Interrupted);
            };
            report::show_line(&row, rows.len() == first);
            // The memory of later cases would be that of the earlier ones.
            rows.push(Row { peak_rss_mb: None, ..row });
        }
        let is_plain = cases.len() == model.len();
        let bar = |row: &Row| {
            let name = if is_plain { row.model.clone().unwrap_or_default() } else { row.title() };
            (name, row.images_per_second)
        };
        charts.push(BarChart {
            title: format!("{}, {}", name(args.bench), name(args.precision.precision)),
            x: "images/s",
            bars: rows[first..].iter().map(bar).collect(),
        });
    }
    if let Some(folder) = &args.output {
        write_json(&folder.join("throughput.json"), &json!(rows))?;
        write_csv(&folder.join("throughput.csv"), &rows)?;
        write_png(&folder.join("throughput.png"), &draw_bar_charts(&charts))?;
        say(format!("\nwritten to {}", shown(folder)));
    }
    print(json!({ "bench": name(Bench::Throughput), "results": rows }))?;
    Ok(Done::Well)
}
