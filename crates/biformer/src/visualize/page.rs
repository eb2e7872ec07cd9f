//! One HTML page on which a pointer over the picture shows where the model looks from there. Picture,
//! routing and attention are part of the page: it needs no network and no other file.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use colorous::TURBO;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use serde_json::{Value, json};

use super::AttentionMaps;

/// The page with `"DATA"` in place of what it shows.
const TEMPLATE: &str = include_str!("page.html");
/// Most weights that a page holds, a byte each: 4 MB as text. With more, single heads are left out.
const MOST_WEIGHTS: usize = 3 << 20;
const JPEG_QUALITY: u8 = 88;
/// Colours of the heat map.
const COLORS: usize = 256;

/// What a page says and shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Heading, such as the name of the file.
    pub title: &'a str,
    /// A line below it, such as model and prediction.
    pub subtitle: &'a str,
    /// What the model saw, at any resolution.
    pub picture: &'a RgbImage,
    /// The attention of each block of each stage.
    pub stages: &'a [Vec<AttentionMaps>],
}

/// The page as text.
pub fn attention_page(page: &Page) -> String {
    let weights = |maps: &AttentionMaps| {
        let Places { rows, cols, keys } = Places::of(maps);
        rows * cols * keys * (1 + maps.num_heads())
    };
    let with_heads = page.stages.iter().flatten().map(weights).sum::<usize>() <= MOST_WEIGHTS;
    let stages: Vec<Vec<Value>> = page
        .stages
        .iter()
        .map(|blocks| blocks.iter().map(|maps| block(maps, with_heads)).collect())
        .collect();
    let colors = (0..COLORS).map(|i| TURBO.eval_rational(i, COLORS)).flat_map(|c| [c.r, c.g, c.b]);
    let data = json!({
        "title": page.title,
        "subtitle": page.subtitle,
        "picture": format!("data:image/jpeg;base64,{}", BASE64.encode(jpeg(page.picture))),
        "colors": BASE64.encode(colors.collect::<Vec<u8>>()),
        "stages": stages,
    });
    // A `<` could end the script that holds the data.
    let data = data.to_string().replace('<', "\\u003c");
    TEMPLATE.replacen("\"DATA\"", &data, 1)
}

/// What the pointer chooses between: regions, or tokens where all attend to all.
struct Places {
    rows: usize,
    cols: usize,
    keys: usize,
}

impl Places {
    fn of(maps: &AttentionMaps) -> Self {
        let [height, width] = maps.size();
        match maps.grid() {
            Some(grid) => {
                let keys = maps.routed_regions(0).len() * grid.tokens();
                Self { rows: grid.rows, cols: grid.cols, keys }
            }
            None => Self { rows: height, cols: width, keys: height * width },
        }
    }
}

fn block(maps: &AttentionMaps, with_heads: bool) -> Value {
    let [height, width] = maps.size();
    let Places { rows, cols, keys } = Places::of(maps);
    let heads = std::iter::once(None).chain((0..maps.num_heads()).filter(|_| with_heads).map(Some));
    let mut weights = Vec::with_capacity(rows * cols * (1 + maps.num_heads()) * keys);
    for place in 0..rows * cols {
        for head in heads.clone() {
            weights.extend(bytes(&place_weights(maps, place, head)));
        }
    }
    let routes: Vec<&[usize]> = (0..rows * cols).map(|place| maps.routed_regions(place)).collect();
    let [region_height, region_width] =
        maps.grid().map_or([1, 1], |grid| [grid.region_height, grid.region_width]);
    json!({
        "height": height,
        "width": width,
        "rows": rows,
        "cols": cols,
        "regionHeight": region_height,
        "regionWidth": region_width,
        "heads": if with_heads { maps.num_heads() } else { 0 },
        "routes": if maps.grid().is_some() { json!(routes) } else { Value::Null },
        "weights": BASE64.encode(weights),
    })
}

/// The mean over the tokens of a region, or the weights of a token where all attend to all.
fn place_weights(maps: &AttentionMaps, place: usize, head: Option<usize>) -> Vec<f32> {
    let Some(grid) = maps.grid() else { return maps.key_weights(0, place, head) };
    let (top, left) =
        (place / grid.cols * grid.region_height, place % grid.cols * grid.region_width);
    let is_seen = |token: &usize| {
        top + token / grid.region_width < grid.height
            && left + token % grid.region_width < grid.width
    };
    let mut sum = vec![0.0; maps.routed_regions(place).len() * grid.tokens()];
    for token in (0..grid.tokens()).filter(is_seen) {
        let weights = maps.key_weights(place, token, head);
        sum.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
    }
    sum
}

/// As shares of the largest, 255.
fn bytes(weights: &[f32]) -> impl Iterator<Item = u8> {
    let most = weights.iter().fold(f32::MIN_POSITIVE, |most, &weight| most.max(weight));
    weights.iter().map(move |weight| (255.0 * weight / most).round() as u8)
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    picture.write_with_encoder(encoder).expect("pixels in memory can be encoded");
    bytes.into_inner()
}
