//! `biformer check-data`

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::Error;
use biformer::data::check::{
    CheckedPart, Consequence, DataReport, Finding, check_classification, check_detection,
    check_segmentation,
};
use biformer::train::Task;
use serde_json::json;

use super::{Done, plural, print, shown};
use crate::args::CheckDataArgs;
use crate::progress::Progress;

pub fn run(args: &CheckDataArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let CheckDataArgs { data, task, dataset } = args;
    if !data.exists() {
        return Err(Error::dataset(data, "does not exist").into());
    }
    if *task == Task::Classify && dataset.is_some() {
        let reason = "is for `--task segment` and `--task detect`; classes are names of folders";
        return Err(Error::option("dataset", reason).into());
    }
    let mut progress = Progress::new();
    let mut observe = |part: &str, done: usize, of: usize| {
        progress.count(part, done, of, "");
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let report = match task {
        Task::Classify => check_classification(data, &mut observe),
        Task::Segment => check_segmentation(data, dataset.as_deref(), &mut observe),
        Task::Detect | Task::Instance => {
            check_detection(data, dataset.as_deref().map(Path::new), &mut observe)
        }
    };
    progress.finish();
    let Some(report) = report else { return Ok(Done::Interrupted) };
    print_table(&report)?;
    print(json!({
        "data": shown(data),
        "task": task.name(),
        "refused": report.is_refused(),
        "parts": report.parts,
        "findings": report.findings,
    }))?;
    Ok(if report.is_refused() { Done::WithFailures } else { Done::Well })
}

/// A line for each part, then one for each finding with its first examples below.
fn print_table(report: &DataReport) -> std::io::Result<()> {
    for CheckedPart { name, images, classes, annotations } in &report.parts {
        let annotations = annotations.map(|count| format!(", {}", plural(count, "annotation")));
        print(format_args!(
            "{name}: {}{} of {}",
            plural(*images, "picture"),
            annotations.unwrap_or_default(),
            if *classes == 1 { "1 class".to_owned() } else { format!("{classes} classes") }
        ))?;
    }
    print("")?;
    if report.findings.is_empty() {
        print("nothing is wrong")?;
    } else {
        let width = report.findings.iter().map(|finding| finding.part.len()).max().unwrap_or(0);
        let width = width.max("part".len());
        print(format_args!("{:<8}  {:<width$}  {:>7}  what", "training", "part", "count"))?;
        for Finding { part, what, consequence, count, examples } in &report.findings {
            let consequence = match consequence {
                Consequence::Refused => "refuses",
                Consequence::LeftOut => "skips",
                Consequence::Note => "takes",
            };
            print(format_args!("{consequence:<8}  {part:<width$}  {count:>7}  {what}"))?;
            for example in examples {
                print(format_args!("{:<8}  {:<width$}  {:>7}    {example}", "", "", ""))?;
            }
        }
    }
    print("")
}
