//! `biformer benchmark`

mod case;
mod compare;
mod growth;
mod report;
mod throughput;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use biformer::analysis::{Benchmark, Measurement, Roofs, draw_rooflines};
use biformer::files::write_atomically;
use biformer::visualize::write_png;
use biformer::{Error, Result};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::{Done, print, shown, write_csv};
use crate::args::{Bench, BenchmarkArgs, Operator, OperatorArgs, Precision};
use crate::device;
use crate::progress::say;
use compare::Former;
use report::{DetailRow, Row};

pub fn run(args: &BenchmarkArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    check(args)?;
    let former = args.compare.as_deref().map(Former::read).transpose()?;
    let options = options(args)?;
    let cases = case::all(args, &options)?;
    if let Some(folder) = &args.output {
        fs::create_dir_all(folder)
            .map_err(|error| Error::io("create the folder", folder, error))?;
    }
    match args.bench {
        Bench::Growth => return growth::run(args, &options, stop),
        Bench::Throughput => return throughput::run(args, stop),
        _ => {}
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut measurements: Vec<Measurement> = Vec::new();
    for case in &cases {
        let Some((mut row, measurement)) = case.measure(args, stop)? else {
            say("interrupted");
            return Ok(Done::Interrupted);
        };
        // The memory of later cases would be that of the earlier ones.
        row.peak_rss_mb = row.peak_rss_mb.filter(|_| rows.is_empty());
        if cases.len() > 1 {
            report::show_line(&row, rows.is_empty());
        }
        rows.push(row);
        measurements.extend(measurement);
    }
    // Last, because it takes more memory than most models.
    let roofs = if measurements.is_empty() { None } else { Roofs::measure(&options) };
    rows.iter_mut().for_each(|row| row.set_roofs(roofs.as_ref()));
    match &rows[..] {
        [row] => report::show(row),
        rows => report::show_roofs(&rows[0]),
    }
    let details: Vec<Vec<DetailRow>> = rows
        .iter()
        .zip(&measurements)
        .map(|(row, measured)| report::details(row, measured, roofs.as_ref()))
        .collect();
    if args.detail {
        rows.iter().zip(&details).for_each(|(row, details)| report::show_details(row, details));
    }
    let mut results: Vec<Value> = rows.iter().map(|row| json!(row)).collect();
    let comparison = former.map(|former| former.compare(&results)).transpose()?;
    if let Some(comparison) = &comparison {
        comparison.show();
    }
    if args.detail {
        results.iter_mut().zip(&details).for_each(|(result, details)| {
            result["detail"] = json!(details);
        });
    }
    let mut object = match results.len() {
        1 => results.swap_remove(0),
        _ => json!({ "bench": name(args.bench), "results": results }),
    };
    if let Some(comparison) = comparison {
        object["compare"] = json!(comparison);
    }
    if let Some(folder) = &args.output {
        write_json(&folder.join("benchmark.json"), &object)?;
        write_csv(&folder.join("benchmark.csv"), &rows)?;
        if args.detail {
            write_roofline(folder, &rows, &details.concat(), &measurements, roofs.as_ref())?;
        }
        say(format!("\nwritten to {}", shown(folder)));
    }
    print(object)?;
    Ok(Done::Well)
}

/// An error if a flag has no meaning for what is measured.
fn check(args: &BenchmarkArgs) -> Result<()> {
    let bench = args.bench;
    let needs = |flag: &'static str, given: bool, benches: &[Bench]| {
        let reason = || format!("has no meaning with --bench {}", name(bench));
        if given && !benches.contains(&bench) { Err(Error::option(flag, reason())) } else { Ok(()) }
    };
    needs("model", !args.model.is_empty(), &[Bench::Inference, Bench::Train, Bench::Throughput])?;
    needs("method", args.method.is_some(), &[Bench::Inference])?;
    if let (Some(flag), None) = (args.windows.given(), &args.method) {
        return Err(Error::option(flag, "needs --method: it is for segmentors"));
    }
    needs("detail", args.detail, &[Bench::Inference, Bench::Train, Bench::Operator])?;
    let has_charts = [Bench::Growth, Bench::Throughput].contains(&bench);
    needs("compare", args.compare.is_some() && has_charts, &[])?;
    needs(
        "precision",
        args.precision.precision != Precision::F32 && bench == Bench::Throughput,
        &[],
    )?;
    match (bench, &args.data) {
        (Bench::Loader, None) => {
            return Err(Error::option("data", "--bench loader needs the data set to load"));
        }
        (Bench::Loader, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(Error::option("data", "needs --bench loader")),
    }
    if let Some(operator) = &args.operator {
        if ![Bench::Operator, Bench::Growth].contains(&bench) {
            let flags = "--operator, --dim, --num-heads, --n-win and --topk";
            let reason = format!("{flags} need --bench operator or growth");
            return Err(Error::option("bench", reason));
        }
        needs("operator", operator.operator.is_some(), &[Bench::Operator])?;
        let has_regions = operator.n_win.or(operator.topk).is_some();
        if operator.operator == Some(Operator::Full) && has_regions {
            return Err(Error::option("operator", "full attention has no regions"));
        }
    }
    if bench == Bench::Growth && args.batch_size.len() > 1 {
        return Err(Error::option("batch_size", "--bench growth takes one"));
    }
    Ok(())
}

/// What the flags say for all cases.
fn options(args: &BenchmarkArgs) -> Result<Benchmark> {
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let defaults = Benchmark::default();
    Ok(Benchmark {
        batch_size: args.batch_size[0],
        threads: args.threads.unwrap_or(defaults.threads),
        runs: args.runs,
        warmup: args.warmup,
        profile: args.detail,
        precision,
        device,
        ..defaults
    })
}

/// The picture only where there are roofs and something below them: not for training, nor off the CPU.
fn write_roofline(
    folder: &Path,
    rows: &[Row],
    details: &[DetailRow],
    measurements: &[Measurement],
    roofs: Option<&Roofs>,
) -> Result<()> {
    write_csv(&folder.join("roofline.csv"), details)?;
    let is_known = details.iter().any(|detail| detail.gflops.is_some());
    let Some(roofs) = roofs.filter(|_| is_known) else { return Ok(()) };
    let titles: Vec<String> = rows.iter().map(Row::title).collect();
    let panels: Vec<_> = titles.iter().map(String::as_str).zip(measurements).collect();
    write_png(&folder.join("roofline.png"), &draw_rooflines(&panels, roofs))
}

fn write_json(path: &Path, object: &Value) -> Result<()> {
    write_atomically(path, |file| Ok(serde_json::to_writer_pretty(file, object)?))
}

/// A value as the flag takes it.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}
