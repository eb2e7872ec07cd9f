//! `biformer info --complexity`: how attention grows with the picture, by formula and counted.

use std::io::{self, Write, stdout};

use biformer::Error;
use biformer::analysis::{AttentionCost, Mechanism, fitted_exponent};
use biformer::models::BiFormerConfig;
use biformer::visualize::{LogChart, LogSeries, Mark, draw_log_charts, write_png};
use serde::Serialize;

use super::info::{set_regions, write_rows};
use super::{Done, shown, write_csv};
use crate::args::{ComplexityArgs, Format, InfoArgs};
use crate::progress::say;

/// Sides of the pictures: multiples of 224, so that windows of 7 tokens are whole at every stride.
const SIDES: [usize; 10] = [224, 448, 672, 896, 1344, 1792, 2688, 3584, 5376, 7168];

/// One attention on one picture.
#[derive(Serialize)]
struct Row<'a> {
    attention: &'a str,
    img_size: usize,
    height: usize,
    width: usize,
    n_win: Option<f64>,
    projection_macs: f64,
    routing_macs: f64,
    attention_macs: f64,
}

/// One attention on all pictures.
struct Column {
    name: String,
    mechanism: Mechanism,
    /// One for each of [`SIDES`].
    costs: Vec<AttentionCost>,
}

pub fn run(args: &InfoArgs) -> anyhow::Result<Done> {
    let ComplexityArgs { stage, window, output, .. } = &args.complexity;
    let name = match args.models.as_slice() {
        [] => "biformer_tiny",
        [name] => name,
        names => {
            let reason = format!("--complexity takes one, got {}", names.len());
            return Err(Error::option("models", reason).into());
        }
    };
    let mut config = BiFormerConfig::from_name(name)?;
    if config.mechanism.is_some() {
        let reason =
            format!("--complexity takes one with bi-level routing attention, got `{name}`");
        return Err(Error::option("models", reason).into());
    }
    set_regions(&mut config, args);
    let index = usize::from(*stage) - 1;
    let stride = 4 << index;
    let (dim, topk, n_win) =
        (config.embed_dims[index], config.topks[index], config.n_win_of(index));
    let title = format!("stage {stage} of {name}: {dim} channels at stride {stride}, k = {topk}");

    let columns = [
        ("full".to_owned(), Mechanism::Full),
        ("axial".to_owned(), Mechanism::Axial),
        (format!("window {window}"), Mechanism::Window { side: usize::from(*window) }),
        ("BRA, S of Eq. 9".to_owned(), Mechanism::Bra { topk }),
        ("counted, S divides".to_owned(), Mechanism::BraCounted { topk, n_win: None }),
        (format!("counted, S = {n_win}"), Mechanism::BraCounted { topk, n_win: Some(n_win) }),
    ];
    let columns = columns.map(|(name, mechanism)| {
        let cost = |side: usize| mechanism.cost([side / stride; 2], dim);
        Column { name, mechanism, costs: SIDES.map(cost).to_vec() }
    });
    let rows: Vec<Row> = columns.iter().flat_map(|column| column.rows(stride)).collect();

    if let Some(folder) = output {
        std::fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
        write_csv(&folder.join("complexity.csv"), &rows)?;
        write_png(&folder.join("complexity.png"), &draw_log_charts(&[chart(&title, &columns)]))?;
        say(format!("complexity.csv, complexity.png → {}", shown(folder)));
    }
    let mut out = stdout().lock();
    match args.format {
        Format::Table => print_table(&title, &columns, stride, &mut out)?,
        format => write_rows(&rows, format, &mut out)?,
    }
    Ok(Done::Well)
}

impl Column {
    fn rows(&self, stride: usize) -> impl Iterator<Item = Row<'_>> {
        SIDES.iter().zip(&self.costs).map(move |(&img_size, cost)| {
            let side = img_size / stride;
            Row {
                attention: &self.name,
                img_size,
                height: side,
                width: side,
                n_win: self.mechanism.n_win([side; 2]),
                projection_macs: cost.projections,
                routing_macs: cost.routing,
                attention_macs: cost.attention,
            }
        })
    }

    /// That of HW in the law that fits a part of the cost.
    fn exponent(&self, part: fn(&AttentionCost) -> f64) -> f64 {
        // The number of tokens is that of the pixels divided by a constant.
        let points =
            SIDES.iter().zip(&self.costs).map(|(&side, cost)| ((side * side) as f64, part(cost)));
        fitted_exponent(&points.collect::<Vec<_>>())
    }
}

fn chart(title: &str, columns: &[Column]) -> LogChart {
    let series = columns.iter().enumerate().map(|(color, column)| LogSeries {
        name: column.name.clone(),
        points: SIDES
            .iter()
            .zip(&column.costs)
            .map(|(&side, cost)| (side as f64, cost.core()))
            .collect(),
        mark: Mark::LineWithDots,
        color,
    });
    LogChart { title: title.to_owned(), x: "pixels a side", y: "MACs", series: series.collect() }
}

fn print_table(
    title: &str,
    columns: &[Column],
    stride: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{title}\nmultiply-accumulates of routing and attention\n")?;
    write!(out, "{:>7} {:>11}", "picture", "map")?;
    for column in columns {
        write!(out, "  {:>18}", column.name)?;
    }
    for (row, img_size) in SIDES.into_iter().enumerate() {
        let side = img_size / stride;
        write!(out, "\n{:>7} {:>11}", format!("{img_size}²"), format!("{side} × {side}"))?;
        for Column { mechanism, costs, .. } in columns {
            let macs = prefixed(costs[row].core());
            let cell = match mechanism {
                Mechanism::Bra { .. } | Mechanism::BraCounted { n_win: None, .. } => {
                    let n_win = mechanism.n_win([side; 2]).expect("regions");
                    let digits = usize::from(n_win.fract() > 0.0);
                    format!("S {n_win:.digits$} {macs:>10}")
                }
                _ => macs,
            };
            write!(out, "  {cell:>18}")?;
        }
    }
    writeln!(out, "\n\nexponent e in a · (HW)^e, by least squares in logarithms")?;
    for (part, value) in [
        ("routing and attention", AttentionCost::core as fn(&AttentionCost) -> f64),
        ("with projections", AttentionCost::total),
    ] {
        write!(out, "{part:>19}")?;
        for column in columns {
            write!(out, "  {:>18.9}", column.exponent(value))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Three digits or more and a prefix of the SI.
fn prefixed(macs: f64) -> String {
    let (unit, prefix) = match macs {
        ..1e6 => (1e3, "k"),
        ..1e9 => (1e6, "M"),
        ..1e12 => (1e9, "G"),
        _ => (1e12, "T"),
    };
    format!("{:.2} {prefix}", macs / unit)
}
