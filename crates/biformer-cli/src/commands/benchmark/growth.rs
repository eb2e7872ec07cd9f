//! `biformer benchmark --bench growth`

use std::sync::atomic::AtomicBool;

use biformer::analysis::{
    Benchmark, Exponents, Growth, GrowthOptions, GrowthPoint, draw_growth, growth,
};
use biformer::visualize::write_png;
use serde::Serialize;
use serde_json::{Value, json};

use super::report::number;
use super::{BenchmarkArgs, Done, name, print, shown, write_csv, write_json};
use crate::commands::{plural, size};
use crate::progress::say;

/// A line of `growth.csv`, and of `results` in the JSON object.
#[derive(Serialize)]
struct Row {
    attention: String,
    img_size: Value,
    tokens: usize,
    n_win: Option<usize>,
    /// `measured`, or `extrapolated` by the exponent.
    times: &'static str,
    ms: f64,
    core_ms: Option<f64>,
    gmacs: f64,
    core_gmacs: f64,
}

pub(super) fn run(
    args: &BenchmarkArgs,
    options: &Benchmark,
    stop: &AtomicBool,
) -> anyhow::Result<Done> {
    let growing = growing(args);
    say(format!(
        "attention of stage 1, batch {}, {} channels, {}, k = {}, {}, {}\n\
         {:<9} {:>11} {:>8} {:>4} {:>12} {:>12} {:>9}",
        options.batch_size,
        growing.dim,
        plural(growing.num_heads, "head"),
        growing.topk,
        plural(options.threads, "thread"),
        name(args.precision.precision),
        "attention",
        "picture",
        "tokens",
        "S",
        "ms",
        "without proj",
        "GMACs"
    ));
    let Some(found) = growth(&growing, options, stop, show)? else {
        say("interrupted");
        return Ok(Done::Interrupted);
    };
    found.exponents.iter().for_each(show_exponents);
    let rows: Vec<Row> = found.points.iter().map(row).collect();
    let object = json!({
        "bench": name(args.bench),
        "batch_size": options.batch_size,
        "threads": options.threads,
        "precision": name(args.precision.precision),
        "device": args.device.device,
        "dim": growing.dim,
        "num_heads": growing.num_heads,
        "topk": growing.topk,
        "exponents": exponents(&found),
        "results": rows,
    });
    if let Some(folder) = &args.output {
        write_json(&folder.join("growth.json"), &object)?;
        write_csv(&folder.join("growth.csv"), &rows)?;
        write_png(&folder.join("growth.png"), &draw_growth(&found))?;
        say(format!("\nwritten to {}", shown(folder)));
    }
    print(object)?;
    Ok(Done::Well)
}

fn growing(args: &BenchmarkArgs) -> GrowthOptions {
    let defaults = GrowthOptions::default();
    let operator = args.operator.clone().unwrap_or_default();
    GrowthOptions {
        sizes: if args.img_size.is_empty() { defaults.sizes } else { args.img_size.clone() },
        dim: operator.dim.unwrap_or(defaults.dim),
        num_heads: operator.num_heads.unwrap_or(defaults.num_heads),
        topk: operator.topk.unwrap_or(defaults.topk),
        n_win: operator.n_win,
    }
}

fn row(point: &GrowthPoint) -> Row {
    Row {
        attention: point.attention.to_string(),
        img_size: size(point.img_size),
        tokens: point.tokens,
        n_win: point.n_win,
        times: if point.extrapolated { "extrapolated" } else { "measured" },
        ms: point.ms,
        core_ms: point.core_ms,
        gmacs: point.macs as f64 / 1e9,
        core_gmacs: point.core_macs as f64 / 1e9,
    }
}

/// A line of the table, as soon as it is known.
fn show(point: &GrowthPoint) {
    let [height, width] = point.img_size;
    say(format!(
        "{:<9} {:>11} {:>8} {:>4} {:>12.3} {:>12} {:>9.3}{}",
        point.attention,
        format!("{height} × {width}"),
        point.tokens,
        point.n_win.map_or("–".to_owned(), |n_win| n_win.to_string()),
        point.ms,
        number(point.core_ms, 3),
        point.macs as f64 / 1e9,
        if point.extrapolated { "  extrapolated" } else { "" }
    ));
}

fn show_exponents(exponents: &Exponents) {
    let [least, most] = exponents.tokens;
    say(format!(
        "{}: time ~ tokens^{:.2}, without projections ^{} (multiply-accumulates ^{:.2}), \
         from {least} to {most} tokens",
        exponents.attention,
        exponents.ms,
        number(exponents.core_ms, 2),
        exponents.core_macs
    ));
}

/// By attention.
fn exponents(growth: &Growth) -> Value {
    let of = |found: &Exponents| {
        let Exponents { attention, tokens, ms, core_ms, core_macs } = found;
        let found =
            json!({ "tokens": tokens, "ms": ms, "core_ms": core_ms, "core_macs": core_macs });
        (attention.to_string(), found)
    };
    Value::Object(growth.exponents.iter().map(of).collect())
}
