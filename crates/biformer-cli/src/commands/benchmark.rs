//! `biformer benchmark`

use std::sync::atomic::AtomicBool;

use biformer::Error;
use biformer::analysis::{
    Benchmark, Measurement, OperatorTime, inference, loader, operator, train_step,
};
use biformer::attention::BraConfig;
use biformer::data::{
    DataLoader, ErasingMode, ImageFolder, RandomErasing, Split, TrainTransform, split_folder,
};
use clap::ValueEnum;
use serde_json::json;

use super::{Done, plural, print, shown, size};
use crate::args::{Bench, BenchmarkArgs, Operator, OperatorArgs};
use crate::device;
use crate::progress::say;

pub fn run(args: &BenchmarkArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let options = options(args)?;
    let model = args.model.as_deref().unwrap_or("biformer_tiny");
    let (subject, result) = match args.bench {
        Bench::Inference => (model.to_owned(), inference(model, &options, stop)),
        Bench::Train => (model.to_owned(), train_step(model, &options, stop)),
        Bench::Operator => {
            let OperatorArgs { operator: name, dim, num_heads, n_win, topk } =
                args.operator.clone().unwrap_or_default();
            let config = BraConfig::new(
                dim.unwrap_or(64),
                num_heads.unwrap_or(2),
                n_win.unwrap_or(16),
                topk.unwrap_or(4),
            );
            match name.unwrap_or(Operator::Bra) {
                Operator::Bra => ("bra".to_owned(), operator(&config, &options, stop)),
            }
        }
        Bench::Loader => return bench_loader(args, &options, stop),
    };
    let Some(measured) = result? else {
        say("interrupted");
        return Ok(Done::Interrupted);
    };
    show(&subject, args, &options, &measured);
    print(json!({
        "bench": name(args.bench),
        "model": subject,
        "batch_size": options.batch_size,
        "img_size": size(options.img_size),
        "threads": options.threads,
        "precision": name(args.precision.precision),
        "instruction_set": measured.instruction_set,
        "median_ms": measured.median_ms,
        "p90_ms": measured.p90_ms,
        "images_per_second": measured.images_per_second,
        "peak_rss_mb": measured.peak_rss_mb,
        "gflops": measured.gflops,
        "peak_fraction": measured.peak_fraction(),
    }))?;
    Ok(Done::Well)
}

/// The loader alone, with the augmentation of the paper's recipe.
fn bench_loader(
    args: &BenchmarkArgs,
    options: &Benchmark,
    stop: &AtomicBool,
) -> anyhow::Result<Done> {
    let Some(data) = &args.data else {
        return Err(Error::option("data", "--bench loader needs the data set to load").into());
    };
    let [height, width] = options.img_size;
    if height != width {
        return Err(Error::option("img_size", "--bench loader makes squares").into());
    }
    let folder = split_folder(data, Split::Train).unwrap_or_else(|_| data.clone());
    let pictures = DataLoader {
        shuffle: true,
        workers: options.threads,
        ..DataLoader::new(ImageFolder::open(folder)?.samples, options.batch_size)
    };
    let erasing = RandomErasing { prob: 0.25, mode: ErasingMode::Pixel, count: 1 };
    let transform = TrainTransform {
        auto_augment: Some("rand-m9-mstd0.5-inc1".parse()?),
        random_erasing: Some(erasing),
        ..TrainTransform::new(height)
    };
    let Some(measured) = loader(&pictures, transform, options, stop)? else {
        say("interrupted");
        return Ok(Done::Interrupted);
    };
    say(format!(
        "loader, batch {}, {height} × {width}, {}: {:.0} images/s over {}",
        options.batch_size,
        plural(options.threads, "thread"),
        measured.images_per_second,
        plural(measured.runs, "run"),
    ));
    print(json!({
        "bench": name(args.bench),
        "data": shown(data),
        "images": pictures.samples.len(),
        "batch_size": options.batch_size,
        "img_size": height,
        "threads": options.threads,
        "runs": measured.runs,
        "median_ms": measured.median_ms,
        "p90_ms": measured.p90_ms,
        "images_per_second": measured.images_per_second,
        "peak_rss_mb": measured.peak_rss_mb,
    }))?;
    Ok(Done::Well)
}

/// What the flags say, unless one of them has no meaning for what is measured.
fn options(args: &BenchmarkArgs) -> anyhow::Result<Benchmark> {
    let is_operator = args.bench == Bench::Operator;
    if (is_operator || args.bench == Bench::Loader) && args.model.is_some() {
        let reason = format!("has no meaning with --bench {}", name(args.bench));
        return Err(Error::option("model", reason).into());
    }
    if args.bench != Bench::Loader && args.data.is_some() {
        return Err(Error::option("data", "needs --bench loader").into());
    }
    if !is_operator && args.operator.is_some() {
        let flags = "--operator, --dim, --num-heads, --n-win and --topk";
        return Err(Error::option("bench", format!("{flags} need --bench operator")).into());
    }
    let device = device::parse(&args.device.device)?;
    let precision = device::precision(&args.precision, &device)?;
    let defaults = Benchmark::default();
    Ok(Benchmark {
        batch_size: args.batch_size,
        img_size: match (args.img_size, is_operator) {
            (Some(size), _) => size,
            (None, true) => [200, 336], // of the paper's detector: stride 4 at 800 × 1344 pixels
            (None, false) => defaults.img_size,
        },
        threads: args.threads.unwrap_or(defaults.threads),
        runs: args.runs,
        warmup: args.warmup,
        profile: args.profile,
        precision,
        device,
    })
}

/// The tables, on stderr.
fn show(subject: &str, args: &BenchmarkArgs, options: &Benchmark, measured: &Measurement) {
    let row = |name: &str, value: f64, unit: &str, note: String| {
        say(format!("{name:<16} {value:>10.3} {unit:<8} {note}").trim_end());
    };
    let [height, width] = options.img_size;
    say(format!(
        "{subject}, {}, batch {}, {height} × {width}, {}, {}{}",
        name(args.bench),
        options.batch_size,
        plural(options.threads, "thread"),
        name(args.precision.precision),
        measured.instruction_set.map(|set| format!(", {set}")).unwrap_or_default()
    ));
    row("median", measured.median_ms, "ms", format!("of {}", plural(measured.runs, "run")));
    row("90th percentile", measured.p90_ms, "ms", String::new());
    row("speed", measured.images_per_second, "images/s", String::new());
    if let Some(megabytes) = measured.peak_rss_mb {
        row("peak memory", megabytes, "MiB", String::new());
    }
    let share = measured.peak_gflops.zip(measured.peak_fraction()).map(|(peak, fraction)| {
        format!("{:.1} % of the measured peak of {peak:.1}", 100.0 * fraction)
    });
    row("arithmetic", measured.gflops, "GFLOP/s", share.unwrap_or_default());
    if !measured.profile.is_empty() {
        show_profile(&measured.profile);
    }
}

fn show_profile(rows: &[OperatorTime]) {
    say("");
    say(format!("{:<22} {:>6} {:>10} {:>8} {:>9}", "operator", "calls", "ms", "share", "GFLOP/s"));
    for OperatorTime { class, calls, ms, share, gflops } in rows {
        let calls = if *calls == 0 { "–".to_owned() } else { calls.to_string() };
        let gflops = gflops.map_or("–".to_owned(), |gflops| format!("{gflops:.1}"));
        let percent = 100.0 * share;
        say(format!("{class:<22} {calls:>6} {ms:>10.3} {percent:>6.1} % {gflops:>9}"));
    }
}

/// A value as the flag takes it.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}
