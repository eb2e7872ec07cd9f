//! `biformer info`

use std::io::{Write, stdout};

use biformer::analysis::{LayerCost, classifier_costs};
use biformer::classification::{ImageClassifierConfig, PRETRAINED, Pretrained};
use biformer::models::{BiFormerConfig, MODEL_NAMES};
use serde::Serialize;

use super::Done;
use crate::args::{Format, InfoArgs};
use crate::device;

/// Parameters in millions, multiply-accumulates in billions at 224², top-1 on ImageNet-1K.
type Paper = (f64, Option<f64>, Option<f64>);

/// Table 1 of the paper; STL from its ablation (Table 5).
const PAPER: [(&str, Paper); 5] = [
    ("biformer_tiny", (13.1, Some(2.2), Some(81.4))),
    ("biformer_small", (25.5, Some(4.5), Some(83.8))),
    ("biformer_base", (56.8, Some(9.8), Some(84.3))),
    ("biformer_stl", (28.4, Some(4.6), Some(82.7))),
    ("biformer_stl_nchw", (28.4, Some(4.6), None)),
];

/// With token labeling: the starred models of §4.1, and the last row of Table 6.
const PAPER_TOKEN_LABELING: [(&str, Paper); 2] = [
    ("biformer_small", (29.0, Some(4.9), Some(84.3))),
    ("biformer_base", (58.0, None, Some(85.4))),
];

#[derive(Serialize)]
struct Row {
    model: String,
    token_labeling: bool,
    img_size: usize,
    /// Counted from the built module, 1000 classes.
    params: usize,
    /// Counted from the built module.
    gmacs: f64,
    paper_params_m: Option<f64>,
    paper_gmacs: Option<f64>,
    paper_top1: Option<f64>,
}

pub fn run(args: &InfoArgs) -> anyhow::Result<Done> {
    let names = match args.models.as_slice() {
        [] => MODEL_NAMES.map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    let size = usize::from(args.img_size);
    let rows = names
        .iter()
        .map(|name| row(name, args.token_labeling, size))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = stdout().lock();
    match args.format {
        Format::Table => print_table(&rows, size, &mut out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?,
        Format::Csv => {
            let mut csv = csv::Writer::from_writer(&mut out);
            for row in &rows {
                csv.serialize(row)?;
            }
            csv.flush()?;
        }
    }
    Ok(Done::Well)
}

fn row(name: &str, token_labeling: bool, size: usize) -> anyhow::Result<Row> {
    let (config, paper) = match token_labeling {
        true => (ImageClassifierConfig::token_labeling(name)?, PAPER_TOKEN_LABELING.as_slice()),
        false => (ImageClassifierConfig::new(BiFormerConfig::from_name(name)?), PAPER.as_slice()),
    };
    // Weights are drawn when they are used: a model that is only counted draws none.
    let costs = classifier_costs(&config.init(&device::parse("cpu")?), [size, size]);
    let sum = |part: fn(&LayerCost) -> usize| costs.iter().map(part).sum::<usize>();
    let paper = paper.iter().find(|(paper, _)| *paper == name).map(|(_, figures)| *figures);
    Ok(Row {
        model: name.to_owned(),
        token_labeling,
        img_size: size,
        params: sum(|cost| cost.params),
        gmacs: sum(|cost| cost.macs) as f64 / 1e9,
        paper_params_m: paper.map(|(params, ..)| params),
        paper_gmacs: paper.and_then(|(_, gmacs, _)| gmacs),
        paper_top1: paper.and_then(|(.., top1)| top1),
    })
}

fn print_table(rows: &[Row], size: usize, out: &mut impl Write) -> std::io::Result<()> {
    let number = |value: Option<f64>, unit: &str| {
        value.map_or("–".to_owned(), |value| format!("{value:.1}{unit}"))
    };
    let at = format!("GMACs @{size}");
    writeln!(
        out,
        "{:<18} {:>12} {:>12}   paper: {:>7} {:>10} {:>6}",
        "model", "parameters", at, "params", "GMACs @224", "top-1"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<18} {:>12} {:>12.3}          {:>7} {:>10} {:>6}",
            row.model,
            thousands(row.params),
            row.gmacs,
            number(row.paper_params_m, "M"),
            number(row.paper_gmacs, ""),
            number(row.paper_top1, "")
        )?;
    }
    writeln!(
        out,
        "1000 classes; counted from the built modules: products, convolutions and norms."
    )?;
    writeln!(out, "\nbuilt-in weights (--checkpoint NAME)")?;
    for Pretrained { name, about, top1, .. } in PRETRAINED {
        writeln!(out, "{name:<26} top-1 {top1:.3}   {about}")?;
    }
    Ok(())
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|g| std::str::from_utf8(g).expect("digits"))
        .collect();
    groups.join(",")
}
