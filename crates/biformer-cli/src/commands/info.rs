//! `biformer info`

use std::io::{self, Write, stdout};

use biformer::Error;
use biformer::analysis::{LayerCost, classifier_costs, map_sizes, optimal_n_win};
use biformer::attention::{Attention, BraConfig, Part, StlAttention};
use biformer::classification::{ImageClassifier, ImageClassifierConfig, PRETRAINED, Pretrained};
use biformer::models::{BiFormerConfig, MODEL_NAMES};
use serde::Serialize;
use serde_json::Value;

use super::{Done, info_complexity, info_segmentors, info_table6, size};
use crate::args::{Format, InfoArgs};
use crate::device;

/// Parameters in millions, multiply-accumulates in billions at 224², top-1 on ImageNet-1K.
pub(super) type Paper = (Option<f64>, Option<f64>, Option<f64>);

/// Table 1 of the paper; STL from its ablation (Table 5), two from Table 6; Swin-T from its own paper; the others
/// from Table 5 and from Table 1 of the supplement, which give their top-1 alone.
const PAPER: [(&str, Paper); 19] = [
    ("biformer_tiny", (Some(13.1), Some(2.2), Some(81.4))),
    ("biformer_small", (Some(25.5), Some(4.5), Some(83.8))),
    ("biformer_base", (Some(56.8), Some(9.8), Some(84.3))),
    ("biformer_stl", (Some(28.4), Some(4.6), Some(82.7))),
    ("biformer_stl_nchw", (Some(28.4), Some(4.6), None)),
    ("biformer_stl_overlapped", (Some(31.0), Some(4.9), Some(82.8))),
    ("biformer_stl_topk_1_2_8_32", (None, None, Some(82.4))),
    ("biformer_stl_topk_2_8_32_49", (None, None, Some(82.6))),
    ("biformer_stl_n_win_8_4_2_1", (None, None, Some(82.3))),
    ("biformer_small_no_pos", (Some(25.0), Some(4.5), Some(83.5))),
    ("swin_tiny", (Some(28.3), Some(4.5), Some(81.3))),
    ("stl_sliding_window", (None, None, Some(81.4))),
    ("stl_shifted_window", (None, None, Some(81.3))),
    ("stl_spatially_separable", (None, None, Some(81.5))),
    ("stl_sequential_axial", (None, None, Some(81.5))),
    ("stl_criss_cross", (None, None, Some(81.7))),
    ("stl_cross_shaped", (None, None, Some(82.2))),
    ("stl_deformable", (None, None, Some(82.0))),
    ("stl_block_grid", (None, None, Some(81.8))),
];

/// With token labeling: the starred models of §4.1, and the last row of Table 6.
const PAPER_TOKEN_LABELING: [(&str, Paper); 2] = [
    ("biformer_small", (Some(29.0), Some(4.9), Some(84.3))),
    ("biformer_base", (Some(58.0), None, Some(85.4))),
];

/// Pixels a side that can be counted.
const SIDES: std::ops::RangeInclusive<usize> = 32..=8192;

/// A model.
#[derive(Serialize)]
struct Row {
    model: String,
    token_labeling: bool,
    img_size: Value,
    /// Counted from the built module, 1000 classes.
    params: usize,
    /// Counted from the built module.
    gmacs: f64,
    paper_params_m: Option<f64>,
    paper_gmacs: Option<f64>,
    paper_top1: Option<f64>,
}

/// A layer of a model.
#[derive(Serialize)]
pub(super) struct LayerRow<'a> {
    model: &'a str,
    layer: &'a str,
    operator: String,
    params: usize,
    macs: usize,
}

/// A model that was built, and what its layers cost.
pub(super) struct Counted {
    name: String,
    model: ImageClassifier,
    costs: Vec<LayerCost>,
}

pub fn run(args: &InfoArgs) -> anyhow::Result<Done> {
    if args.complexity.complexity {
        return info_complexity::run(args);
    }
    if !args.img_size().iter().all(|side| SIDES.contains(side)) {
        let [low, high] = [SIDES.start(), SIDES.end()];
        let reason = format!("must be {low} to {high} pixels, got {}", size(args.img_size()));
        return Err(Error::option("img-size", reason).into());
    }
    if args.table6 {
        return info_table6::run(args);
    }
    if args.lists_segmentors() {
        return info_segmentors::run(args);
    }
    let names = match args.models.as_slice() {
        [] => MODEL_NAMES.map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    let counted: Vec<Counted> = names
        .into_iter()
        .map(|name| count(name, args.token_labeling, args))
        .collect::<Result<_, _>>()?;
    let rows: Vec<Row> = counted.iter().map(|counted| row(counted, args)).collect();
    let layers: Vec<LayerRow> = match args.layers {
        true => counted.iter().flat_map(|one| layer_rows(&one.name, &one.costs)).collect(),
        false => Vec::new(),
    };
    let mut out = stdout().lock();
    match args.format {
        Format::Table => {
            if args.layers {
                print_layers(&layers, &mut out)?;
            }
            print_table(&rows, args, &mut out)?;
            for counted in counted.iter().filter(|_| !args.models.is_empty()) {
                print_regions(counted, args.img_size(), &mut out)?;
            }
            print_weights(&mut out)?;
        }
        format if args.layers => write_rows(&layers, format, &mut out)?,
        format => write_rows(&rows, format, &mut out)?,
    }
    Ok(Done::Well)
}

pub(super) fn count(
    name: String,
    token_labeling: bool,
    args: &InfoArgs,
) -> anyhow::Result<Counted> {
    let mut config = match token_labeling {
        true => ImageClassifierConfig::token_labeling(&name)?,
        false => ImageClassifierConfig::new(BiFormerConfig::from_name(&name)?),
    };
    set_regions(&mut config.backbone, args);
    // Weights are drawn when they are used: a model that is only counted draws none.
    let model = config.init(&device::parse("cpu")?);
    let costs = classifier_costs(&model, args.img_size());
    Ok(Counted { name, model, costs })
}

/// S and k as the flags have them.
pub(super) fn set_regions(config: &mut BiFormerConfig, args: &InfoArgs) {
    if let Some(n_win) = args.n_win {
        config.n_win = n_win.into();
    }
    if let Some(topks) = args.topk {
        config.topks = topks;
    }
}

impl Counted {
    /// Parameters, and 10⁹ multiply-accumulates.
    pub(super) fn sums(&self) -> (usize, f64) {
        let sum = |part: fn(&LayerCost) -> usize| self.costs.iter().map(part).sum::<usize>();
        (sum(|cost| cost.params), sum(|cost| cost.macs) as f64 / 1e9)
    }
}

fn row(counted: &Counted, args: &InfoArgs) -> Row {
    let paper = if args.token_labeling { PAPER_TOKEN_LABELING.as_slice() } else { &PAPER };
    let paper = paper.iter().find(|(paper, _)| *paper == counted.name).map(|(_, figures)| *figures);
    let (params, gmacs) = counted.sums();
    Row {
        model: counted.name.clone(),
        token_labeling: args.token_labeling,
        img_size: size(args.img_size()),
        params,
        gmacs,
        paper_params_m: paper.and_then(|(params, ..)| params),
        paper_gmacs: paper.and_then(|(_, gmacs, _)| gmacs),
        paper_top1: paper.and_then(|(.., top1)| top1),
    }
}

pub(super) fn layer_rows<'a>(
    model: &'a str,
    costs: &'a [LayerCost],
) -> impl Iterator<Item = LayerRow<'a>> {
    costs.iter().map(move |LayerCost { name, class, params, macs, .. }| LayerRow {
        model,
        layer: name,
        operator: class.to_string(),
        params: *params,
        macs: *macs,
    })
}

pub(super) fn write_rows(
    rows: &[impl Serialize],
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if format == Format::Json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?);
    }
    let mut csv = csv::Writer::from_writer(out);
    for row in rows {
        csv.serialize(row)?;
    }
    Ok(csv.flush()?)
}

pub(super) fn print_layers(layers: &[LayerRow], out: &mut impl Write) -> io::Result<()> {
    for layers in layers.chunk_by(|a, b| a.model == b.model) {
        let header = ("operator", "parameters", "MACs", "share");
        let total = layers.iter().map(|layer| layer.macs).sum::<usize>() as f64;
        let (operator, params, macs, share) = header;
        writeln!(out, "{:<36} {operator:<22} {params:>12} {macs:>14} {share:>7}", layers[0].model)?;
        for LayerRow { layer, operator, params, macs, .. } in layers {
            let (params, count) = (thousands(*params), thousands(*macs));
            let share = 100.0 * *macs as f64 / total;
            writeln!(out, "{layer:<36} {operator:<22} {params:>12} {count:>14} {share:>5.1} %")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn print_table(rows: &[Row], args: &InfoArgs, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:<24} {}", "model", figures_header(args))?;
    for row in rows {
        let paper = [row.paper_params_m, row.paper_gmacs, row.paper_top1];
        writeln!(out, "{:<24} {}", row.model, figures(row.params, row.gmacs, paper))?;
    }
    writeln!(out, "{COUNTED}")
}

/// What figures mean.
pub(super) const COUNTED: &str =
    "1000 classes; counted from the built modules: products, convolutions and norms.";

/// Above [`figures`].
pub(super) fn figures_header(args: &InfoArgs) -> String {
    let gmacs = gmacs_header(args);
    format!(
        "{:>12} {gmacs:>14}   paper: {:>7} {:>10} {:>6}",
        "parameters", "params", "GMACs @224", "top-1"
    )
}

/// As the flag has the size.
pub(super) fn gmacs_header(args: &InfoArgs) -> String {
    let [height, width] = args.img_size();
    let side = if height == width { height.to_string() } else { format!("{height}x{width}") };
    format!("GMACs @{side}")
}

/// What was counted, and the paper's millions of parameters, GMACs and top-1.
pub(super) fn figures(params: usize, gmacs: f64, paper: [Option<f64>; 3]) -> String {
    let [paper_params, paper_gmacs, top1] = paper;
    let number = |value: Option<f64>, unit: &str| {
        value.map_or("–".to_owned(), |value| format!("{value:.1}{unit}"))
    };
    format!(
        "{:>12} {gmacs:>14.3}          {:>7} {:>10} {:>6}",
        thousands(params),
        number(paper_params, "M"),
        number(paper_gmacs, ""),
        number(top1, "")
    )
}

/// How the map of each stage is cut, and how Eq. 9 would cut it.
fn print_regions(
    Counted { name, model, .. }: &Counted,
    img_size: [usize; 2],
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "\n{name}")?;
    for (i, size) in map_sizes(&model.backbone, img_size).into_iter().enumerate() {
        let [height, width] = size;
        write!(out, "stage {}  {:>9} tokens", i + 1, format!("{height} × {width}"))?;
        match &model.backbone.stages[i].blocks[0].attn {
            Attention::Bra(attention) => {
                let BraConfig { topk, .. } = attention.config;
                let grid = attention.config.grid(height, width);
                writeln!(
                    out,
                    "  {} × {} regions of {} × {}, k = {topk}: {} tokens to attend; S of Eq. 9: {:.1}",
                    grid.rows,
                    grid.cols,
                    grid.region_height,
                    grid.region_width,
                    topk.min(grid.regions()) * grid.tokens(),
                    optimal_n_win(size, topk)
                )?;
            }
            Attention::Full(_) => writeln!(out, "  all {} tokens to attend", height * width)?,
            Attention::Window(attention) => {
                let grid = attention.config.grid(height, width);
                let (rows, cols, keys) = (grid.rows, grid.cols, grid.tokens());
                writeln!(out, "  {rows} × {cols} windows: {keys} tokens to attend")?;
            }
            Attention::Stl(attention) => {
                let keys = mean_keys(attention, size, model.backbone.config.embed_dims[i]);
                writeln!(out, "  {keys:.0} tokens to attend")?;
            }
        }
    }
    Ok(())
}

/// Keys that a head compares a query with, at all levels together.
fn mean_keys(attention: &StlAttention, [height, width]: [usize; 2], channels: usize) -> f64 {
    let products = |part: &(_, Part)| match part.1 {
        Part::Attention { pairs, dim, .. } => pairs * dim,
        _ => 0,
    };
    let products: usize = attention.parts([height, width]).iter().map(products).sum();
    products as f64 / (height * width * channels) as f64
}

fn print_weights(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nbuilt-in weights (--checkpoint NAME)")?;
    for Pretrained { name, about, top1, .. } in PRETRAINED {
        writeln!(out, "{name:<26} top-1 {top1:.3}   {about}")?;
    }
    Ok(())
}

pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|g| std::str::from_utf8(g).expect("digits"))
        .collect();
    groups.join(",")
}
