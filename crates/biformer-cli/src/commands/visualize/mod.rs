//! `biformer visualize`

mod model;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use biformer::Error;
use biformer::data::RgbImage;
use biformer::visualize::{
    Page, Tile, attention_page, contact_sheet, draw_attention, draw_heat_map, write_png, write_text,
};
use burn::tensor::Device;
use serde_json::json;

use super::pictures::{STDIN, free_name, list_pictures, read};
use super::{Done, next_free, plural, print, shown};
use crate::args::{Block, Head, VisualizeArgs};
use crate::device;
use crate::progress::say;
use model::{Look, Model};

/// Longer side of a drawn picture in pixels.
const SIDE: u32 = 384;
/// The same on a page, and on the contact sheet.
const PAGE_SIDE: u32 = 640;
const TILE_SIDE: u32 = 128;
/// Heat maps in a row of the contact sheet.
const COLUMNS: usize = 6;
const SHEET: &str = "contact_sheet";

pub fn run(args: &VisualizeArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let pictures = list_pictures(&args.pictures)?;
    let model = Model::load(args, &device)?;
    let view = View::of(args, &model, &device)?;
    let output = args.output.clone().unwrap_or_else(|| next_free("runs/visualize"));
    std::fs::create_dir_all(&output).map_err(|source| Error::io("create", &output, source))?;

    let (mut drawings, mut heat_maps, mut failures) = (BTreeSet::new(), Vec::new(), 0);
    let mut interrupted = false;
    for path in &pictures {
        interrupted = stop.load(Ordering::Relaxed);
        if interrupted {
            break;
        }
        match read(path).and_then(|picture| view.draw(path, &picture)) {
            Ok(Drawn { rows, page, heat_map }) => {
                let name = free_name(path, &drawings, &[SHEET]);
                write_png(&output.join(format!("{name}.png")), &rows)?;
                write_text(&output.join(format!("{name}.html")), &page)?;
                drawings.insert(name);
                heat_maps.push(heat_map);
            }
            Err(error) => {
                say(format!("error: {error}"));
                failures += 1;
            }
        }
    }
    if heat_maps.len() > 1 {
        let tiles = heat_maps.iter().map(|HeatMap { image, class, probability }| Tile {
            image,
            label: None,
            prediction: class,
            probability: *probability,
        });
        let tiles: Vec<_> = tiles.collect();
        write_png(&output.join(format!("{SHEET}.png")), &contact_sheet(&tiles, COLUMNS))?;
    }
    say(format!(
        "{} of stage {}, block {} → {}",
        plural(drawings.len(), "drawing"),
        view.stage + 1,
        view.block + 1,
        shown(&output)
    ));
    print(json!({
        "output": shown(&output),
        "drawings": drawings,
        "stage": view.stage + 1,
        "block": view.block + 1,
        "head": view.head,
    }))?;
    Ok(match (interrupted, failures) {
        (true, _) => Done::Interrupted,
        (_, 0) => Done::Well,
        _ => Done::WithFailures,
    })
}

/// What was drawn of a picture.
struct Drawn {
    /// One for each query.
    rows: RgbImage,
    page: String,
    heat_map: HeatMap,
}

/// A tile of the contact sheet: the attention of the first query, and the best class, of a segmentor that
/// of the query.
struct HeatMap {
    image: RgbImage,
    class: String,
    probability: f32,
}

/// What is drawn of every picture.
struct View<'a> {
    model: &'a Model,
    device: &'a Device,
    queries: &'a [[u32; 2]],
    /// Counted from 0, as the others.
    stage: usize,
    block: usize,
    head: Option<usize>,
}

impl<'a> View<'a> {
    fn of(args: &'a VisualizeArgs, model: &'a Model, device: &'a Device) -> Result<Self, Error> {
        if !model.is_traceable() {
            let reason = format!(
                "must hold bi-level routing attention, which is what is drawn; got {}",
                model.name()
            );
            return Err(Error::option("checkpoint", reason));
        }
        let stage = usize::from(args.stage) - 1;
        let attentions = model.attentions(stage);
        let depth = attentions.len();
        if depth == 0 {
            let reason = format!("{} has no blocks there; take 1", model.name());
            return Err(Error::option("stage", reason));
        }
        let block = match args.block {
            Block::Last => depth - 1,
            Block::Number(number) if number <= depth => number - 1,
            Block::Number(number) => {
                let reason =
                    format!("stage {} has {}, got {number}", args.stage, plural(depth, "block"));
                return Err(Error::option("block", reason));
            }
        };
        let head = match args.head {
            Head::All => None,
            Head::Number(head) => Some(head),
        };
        let num_heads = attentions[block].num_heads();
        if let Some(head) = head.filter(|&head| head >= num_heads) {
            let reason =
                format!("stage {} has heads 0 to {}, got {head}", args.stage, num_heads - 1);
            return Err(Error::option("head", reason));
        }
        Ok(Self { model, device, queries: &args.query, stage, block, head })
    }

    fn draw(&self, path: &Path, picture: &RgbImage) -> Result<Drawn, Error> {
        let model = self.model;
        let queries = self.queries_in(path, picture)?;
        let Look { class, probability, stages } = model.look(picture, queries[0], self.device)?;
        let maps = &stages[self.stage][self.block];
        let large = model.seen(picture, SIDE);
        let rows = queries.iter().map(|&query| draw_attention(&large, maps, query, self.head));
        let rows = below_each_other(&rows.collect::<Vec<_>>());
        let image = draw_heat_map(&model.seen(picture, TILE_SIDE), maps, queries[0], self.head);
        let title = match path.file_name() {
            Some(name) if path.as_os_str() != STDIN => name.to_string_lossy(),
            _ => "standard input".into(),
        };
        let said = format!("{}: {class}, {:.1} %", model.name(), 100.0 * probability);
        let page = attention_page(&Page {
            title: &title,
            subtitle: &match model {
                Model::Classifier(_) => said,
                Model::Segmentor(..) => format!("{said} {}", where_is(queries[0], picture)),
            },
            picture: &model.seen(picture, PAGE_SIDE),
            stages: &stages,
        });
        Ok(Drawn { rows, page, heat_map: HeatMap { image, class, probability } })
    }

    /// The queries in what the model sees; without any the middle of it.
    fn queries_in(&self, path: &Path, picture: &RgbImage) -> Result<Vec<[f64; 2]>, Error> {
        if self.queries.is_empty() {
            return Ok(vec![[0.5, 0.5]]);
        }
        let locate = |&[x, y]: &[u32; 2]| {
            self.model.locate([x, y], picture).map_err(|sees| {
                let reason = format!("the model does not see {x},{y} in `{}`: {sees}", shown(path));
                Error::option("query", reason)
            })
        };
        self.queries.iter().map(locate).collect()
    }
}

/// A place in a picture that is seen whole, as `--query` has it.
fn where_is([x, y]: [f64; 2], picture: &RgbImage) -> String {
    let (width, height) = picture.dimensions();
    let pixel = |along: f64, pixels: u32| (along * f64::from(pixels)) as u32;
    format!("at {},{}", pixel(x, width), pixel(y, height))
}

fn below_each_other(rows: &[RgbImage]) -> RgbImage {
    let (width, height) = rows[0].dimensions();
    let pixels = rows.iter().flat_map(|row| row.as_raw()).copied().collect();
    RgbImage::from_raw(width, height * rows.len() as u32, pixels).expect("rows of one size")
}
