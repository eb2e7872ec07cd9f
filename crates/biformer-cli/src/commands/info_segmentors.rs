//! `biformer info` of segmentors: what their parts cost.

use std::io::{self, Write, stdout};

use biformer::Error;
use biformer::analysis::{LayerCost, segmentor_costs};
use biformer::models::MODEL_NAMES;
use biformer::segmentation::{LoadDenseOptions, METHOD_NAMES, SegmentorConfig};
use serde::Serialize;
use serde_json::Value;

use super::info::{gmacs_header, layer_rows, print_layers, thousands, write_rows};
use super::{Done, segment, size};
use crate::args::{Format, InfoArgs, is_file_name};
use crate::device;

/// A part of a segmentor, or all of it.
#[derive(Serialize)]
struct Row<'a> {
    model: &'a str,
    method: &'a str,
    num_classes: usize,
    img_size: Value,
    part: &'a str,
    /// Counted from the built module.
    params: usize,
    /// Counted from the built module.
    gmacs: f64,
}

/// A segmentor that was built, and what its layers cost.
struct Counted {
    model: String,
    method: String,
    num_classes: usize,
    costs: Vec<LayerCost>,
}

pub fn run(args: &InfoArgs) -> anyhow::Result<Done> {
    let of_classifiers = [
        ("token-labeling", args.token_labeling),
        ("n-win", args.n_win.is_some()),
        ("topk", args.topk.is_some()),
    ];
    if let Some((flag, _)) = of_classifiers.into_iter().find(|&(_, given)| given) {
        return Err(Error::option(flag, "is for classifiers").into());
    }
    let names = match args.models.as_slice() {
        [] => MODEL_NAMES.map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    let counted = names.iter().map(|name| count(name, args));
    let counted: Vec<Counted> = counted.collect::<anyhow::Result<_>>()?;
    let titles: Vec<String> = counted.iter().map(Counted::title).collect();
    let layers: Vec<_> = titles
        .iter()
        .zip(&counted)
        .filter(|_| args.layers)
        .flat_map(|(title, counted)| layer_rows(title, &counted.costs))
        .collect();
    let mut out = stdout().lock();
    match args.format {
        Format::Table => {
            print_layers(&layers, &mut out)?;
            for (title, counted) in titles.iter().zip(&counted) {
                print_parts(title, &counted.rows(args), args, &mut out)?;
            }
            writeln!(out, "Counted from the built modules: products, convolutions and norms.")?;
        }
        format if args.layers => write_rows(&layers, format, &mut out)?,
        format => {
            let rows: Vec<Row> = counted.iter().flat_map(|counted| counted.rows(args)).collect();
            write_rows(&rows, format, &mut out)?;
        }
    }
    Ok(Done::Well)
}

/// The segmentor in a file, or one with fresh weights and the classes of ADE20K.
fn count(name: &str, args: &InfoArgs) -> anyhow::Result<Counted> {
    let device = device::parse("cpu")?;
    let (model, method, built) = if is_file_name(name) {
        let loaded = segment::open(name, &LoadDenseOptions::default(), &device)?;
        (loaded.info.model, loaded.info.method, loaded.model)
    } else {
        let method = args.method.clone().ok_or_else(|| {
            let known = METHOD_NAMES.join(", ");
            Error::option("method", format!("name the head on {name}; there are {known}"))
        })?;
        (name.to_owned(), method.clone(), SegmentorConfig::from_names(name, &method)?.init(&device))
    };
    let num_classes = built.num_classes();
    Ok(Counted { model, method, num_classes, costs: segmentor_costs(&built, args.img_size()) })
}

impl Counted {
    fn title(&self) -> String {
        format!("{} on {}, {} classes", self.method, self.model, self.num_classes)
    }

    /// The parts in their order, then their sum.
    fn rows(&self, args: &InfoArgs) -> Vec<Row<'_>> {
        let parts = self.costs.chunk_by(|a, b| part(a) == part(b));
        let named = parts.map(|layers| (part(&layers[0]), layers));
        let row = |(part, layers): (_, &[LayerCost])| Row {
            model: &self.model,
            method: &self.method,
            num_classes: self.num_classes,
            img_size: size(args.img_size()),
            part,
            params: layers.iter().map(|layer| layer.params).sum(),
            gmacs: layers.iter().map(|layer| layer.macs).sum::<usize>() as f64 / 1e9,
        };
        named.chain([("all", self.costs.as_slice())]).map(row).collect()
    }
}

/// Where a layer belongs: its name begins with that.
fn part(layer: &LayerCost) -> &str {
    layer.name.split('.').next().unwrap_or_default()
}

fn print_parts(title: &str, rows: &[Row], args: &InfoArgs, out: &mut impl Write) -> io::Result<()> {
    let (params, gmacs, share) = ("parameters", gmacs_header(args), "share");
    writeln!(out, "{title:<44} {params:>12} {gmacs:>14} {share:>7}")?;
    let total = rows.last().map_or(0.0, |all| all.gmacs);
    for Row { part, params, gmacs, .. } in rows {
        let (params, share) = (thousands(*params), 100.0 * gmacs / total);
        writeln!(out, "{part:<44} {params:>12} {gmacs:>14.3} {share:>5.1} %")?;
    }
    writeln!(out)
}
