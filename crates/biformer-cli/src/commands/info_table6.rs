//! `biformer info --table6`: the models on the way from Swin-T's layout to BiFormer-S.

use std::io::{Write, stdout};

use serde::Serialize;
use serde_json::Value;

use super::info::{COUNTED, Paper, count, figures, figures_header, write_rows};
use super::{Done, size};
use crate::args::{Format, InfoArgs};

/// Rows of Table 6: what changes, the model, whether it has the parts of token labeling, the figures.
const TABLE6: [(&str, &str, bool, Paper); 5] = [
    ("Swin-T layout", "biformer_stl", false, (Some(29.0), Some(4.6), Some(82.7))),
    (
        "+ overlapped patch embedding",
        "biformer_stl_overlapped",
        false,
        (Some(31.0), Some(4.9), Some(82.8)),
    ),
    ("+ deeper layout", "biformer_small_no_pos", false, (Some(25.0), Some(4.5), Some(83.5))),
    (
        "+ convolutional position encoding",
        "biformer_small",
        false,
        (Some(26.0), Some(4.5), Some(83.8)),
    ),
    ("+ token labeling", "biformer_small", true, (Some(29.0), Some(4.9), Some(84.3))),
];

/// A model, and what it changes.
#[derive(Serialize)]
struct Row {
    change: &'static str,
    model: &'static str,
    token_labeling: bool,
    img_size: Value,
    params: usize,
    gmacs: f64,
    paper_params_m: Option<f64>,
    paper_gmacs: Option<f64>,
    paper_top1: Option<f64>,
}

pub fn run(args: &InfoArgs) -> anyhow::Result<Done> {
    let row = |&(change, model, token_labeling, paper): &(_, &'static str, _, Paper)| {
        let (params, gmacs) = count(model.to_owned(), token_labeling, args)?.sums();
        let (paper_params_m, paper_gmacs, paper_top1) = paper;
        let img_size = size(args.img_size());
        Ok(Row {
            change,
            model,
            token_labeling,
            img_size,
            params,
            gmacs,
            paper_params_m,
            paper_gmacs,
            paper_top1,
        })
    };
    let rows: Vec<Row> = TABLE6.iter().map(row).collect::<anyhow::Result<_>>()?;
    let mut out = stdout().lock();
    if args.format != Format::Table {
        write_rows(&rows, args.format, &mut out)?;
        return Ok(Done::Well);
    }
    writeln!(out, "{:<34} {:<24} {}", "Table 6", "model", figures_header(args))?;
    for row in rows {
        let paper = [row.paper_params_m, row.paper_gmacs, row.paper_top1];
        let figures = figures(row.params, row.gmacs, paper);
        writeln!(out, "{:<34} {:<24} {figures}", row.change, row.model)?;
    }
    writeln!(out, "{COUNTED}")?;
    Ok(Done::Well)
}
