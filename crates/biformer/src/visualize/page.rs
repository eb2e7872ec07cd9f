//! One HTML page on which a pointer over the picture shows where the model looks from there. Picture,
//! routing and attention are part of the page: it needs no network and no other file.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use biformer_ops::RegionGrid;
use colorous::TURBO;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use serde_json::{Value, json};

use super::AttentionMaps;

/// The page with `"DATA"` in place of what it shows.
const TEMPLATE: &str = include_str!("page.html");
/// Most weights that a page holds, a byte each, 4 MB as text; each block has its share. A block with more
/// goes without its heads, then shows means over cells of several tokens.
const MOST_WEIGHTS: usize = 3_000_000;
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
    let blocks: usize = page.stages.iter().map(Vec::len).sum();
    let most_weights = MOST_WEIGHTS / blocks.max(1);
    let stages: Vec<Vec<Value>> = page
        .stages
        .iter()
        .map(|blocks| blocks.iter().map(|maps| block(maps, most_weights)).collect())
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

/// What of a block the page shows: for each place, which the pointer chooses, and each cell of its keys
/// a mean of weights. Places are regions, or cells where all tokens attend to all.
struct Detail {
    /// Side of a cell in tokens. The last cells of a region are smaller if it does not divide.
    cell: usize,
    with_heads: bool,
}

impl Detail {
    /// The most that takes no more than `most_weights`.
    fn of(maps: &AttentionMaps, most_weights: usize) -> Self {
        if places(maps, 1) * keys(maps, 1) * (1 + maps.num_heads()) <= most_weights {
            return Self { cell: 1, with_heads: true };
        }
        let fits = |cell: &usize| places(maps, *cell) * keys(maps, *cell) <= most_weights;
        let [height, width] = maps.size();
        let cell = (1..height.max(width)).find(fits).unwrap_or(height.max(width));
        Self { cell, with_heads: false }
    }
}

fn places(maps: &AttentionMaps, cell: usize) -> usize {
    let [height, width] = maps.size();
    maps.grid().map_or(height.div_ceil(cell) * width.div_ceil(cell), RegionGrid::regions)
}

/// Cells that a place attends to.
fn keys(maps: &AttentionMaps, cell: usize) -> usize {
    let [region_height, region_width] = region_size(maps);
    let cells = region_height.div_ceil(cell) * region_width.div_ceil(cell);
    maps.routed_regions(0).len().max(1) * cells
}

/// In tokens; all are one region where all attend to all.
fn region_size(maps: &AttentionMaps) -> [usize; 2] {
    maps.grid().map_or(maps.size(), |grid| [grid.region_height, grid.region_width])
}

fn block(maps: &AttentionMaps, most_weights: usize) -> Value {
    let Detail { cell, with_heads } = Detail::of(maps, most_weights);
    let [height, width] = maps.size();
    let shown_heads = if with_heads { maps.num_heads() } else { 0 };
    let key_cells = cells(region_size(maps), cell);
    let mut weights = Vec::new();
    for region in 0..maps.grid().map_or(1, RegionGrid::regions) {
        let of_region = maps.region_weights(region);
        for tokens in asking(maps, region, cell) {
            let by_head: Vec<Vec<f32>> =
                (0..maps.num_heads()).map(|head| of_region.sum(&tokens, head..head + 1)).collect();
            let of_all = |key: usize| by_head.iter().map(|weights| weights[key]).sum();
            let all: Vec<f32> = (0..keys(maps, 1)).map(of_all).collect();
            for weights_of_keys in std::iter::once(&all).chain(&by_head[..shown_heads]) {
                weights.extend(bytes(&cell_means(weights_of_keys, &key_cells)));
            }
        }
    }
    let (rows, cols, place_size) = match maps.grid() {
        Some(grid) => (grid.rows, grid.cols, region_size(maps)),
        None => (height.div_ceil(cell), width.div_ceil(cell), [cell; 2]),
    };
    let routes: Vec<&[usize]> =
        (0..rows * cols).map(|region| maps.routed_regions(region)).collect();
    json!({
        "height": height,
        "width": width,
        "rows": rows,
        "cols": cols,
        "regionHeight": place_size[0],
        "regionWidth": place_size[1],
        "cell": cell,
        "heads": shown_heads,
        "routes": if maps.grid().is_some() { json!(routes) } else { Value::Null },
        "weights": BASE64.encode(weights),
    })
}

/// The tokens of each place of a region: all that are no padding, or those of each cell where all attend
/// to all.
fn asking(maps: &AttentionMaps, region: usize, cell: usize) -> Vec<Vec<usize>> {
    let [region_height, region_width] = region_size(maps);
    let Some(grid) = maps.grid() else {
        return cells([region_height, region_width], cell);
    };
    let (top, left) = (region / grid.cols * region_height, region % grid.cols * region_width);
    let is_seen = |token: &usize| {
        top + token / region_width < grid.height && left + token % region_width < grid.width
    };
    vec![(0..grid.tokens()).filter(is_seen).collect()]
}

/// The tokens of each cell of a region, both row by row.
fn cells([height, width]: [usize; 2], cell: usize) -> Vec<Vec<usize>> {
    let mut cells = vec![Vec::new(); height.div_ceil(cell) * width.div_ceil(cell)];
    for token in 0..height * width {
        let (y, x) = (token / width, token % width);
        cells[y / cell * width.div_ceil(cell) + x / cell].push(token);
    }
    cells
}

/// From a weight for each token of some regions, one region after the other, a mean for each of the cells
/// that a region is cut into.
fn cell_means(weights: &[f32], cells: &[Vec<usize>]) -> Vec<f32> {
    let regions = weights.chunks(cells.iter().map(Vec::len).sum());
    let mean = |region: &[f32], cell: &Vec<usize>| {
        cell.iter().map(|&token| region[token]).sum::<f32>() / cell.len() as f32
    };
    regions.flat_map(|region| cells.iter().map(move |cell| mean(region, cell))).collect()
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor};

    use super::*;
    use crate::attention::{BraConfig, FullAttentionConfig};

    fn map(size: [usize; 2], dim: usize) -> Tensor<4> {
        let device = Device::default();
        Tensor::random([1, size[0], size[1], dim], Distribution::Normal(0.0, 2.0), &device)
    }

    fn routed(size: [usize; 2], n_win: usize, topk: usize) -> AttentionMaps {
        let attention = BraConfig::new(8, 2, n_win, topk).init(&Device::default());
        AttentionMaps::new(&attention.forward_traced(map(size, 8)), 0)
    }

    fn full(size: [usize; 2], num_heads: usize) -> AttentionMaps {
        let config = FullAttentionConfig::new(8).with_num_heads(num_heads);
        AttentionMaps::new(&config.init(&Device::default()).forward_traced(map(size, 8)), 0)
    }

    /// What a page should show, token by token: the mean of the maps of the place's tokens, and of that
    /// the mean over the tokens of each cell.
    fn check(maps: &AttentionMaps, most_weights: usize, expected_cell: usize) {
        let shown = block(maps, most_weights);
        let number = |key: &str| shown[key].as_u64().expect("a number") as usize;
        let (cell, height, width) = (number("cell"), number("height"), number("width"));
        assert_eq!(cell, expected_cell);
        let [region_height, region_width] = [number("regionHeight"), number("regionWidth")];
        let (rows, cols) = (number("rows"), number("cols"));
        let text = shown["weights"].as_str().expect("text");
        let weights = BASE64.decode(text).expect("base64");
        assert!(weights.len() <= most_weights, "{} of {most_weights}", weights.len());
        let tokens = || (0..height * width).map(|token| [token / width, token % width]);
        let region = |[y, x]: [usize; 2]| y / region_height * cols + x / region_width;
        let inside = |[y, x]: [usize; 2]| [y % region_height / cell, x % region_width / cell];
        let mut rest = weights.as_slice();
        for place in 0..rows * cols {
            let routes = match shown["routes"].as_array() {
                Some(routes) => serde_json::from_value(routes[place].clone()).expect("numbers"),
                None => (0..rows * cols).collect::<Vec<usize>>(),
            };
            for head in std::iter::once(None).chain((0..number("heads")).map(Some)) {
                let mut mean = vec![0.0f32; height * width];
                for query in tokens().filter(|&token| region(token) == place) {
                    let weights = maps.weights(query, head);
                    mean.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
                }
                let mut means = Vec::new();
                for &key in &routes {
                    for y in 0..region_height.div_ceil(cell) {
                        for x in 0..region_width.div_ceil(cell) {
                            let cell: Vec<f32> = tokens()
                                .zip(&mean)
                                .filter(|&(token, _)| {
                                    region(token) == key && inside(token) == [y, x]
                                })
                                .map(|(_, weight)| *weight)
                                .collect();
                            means.push(cell.iter().sum::<f32>() / cell.len() as f32);
                        }
                    }
                }
                let (found, others) = rest.split_at(means.len());
                rest = others;
                for (found, expected) in found.iter().zip(bytes(&means)) {
                    // Sums in another order may round to the neighbour.
                    assert!(found.abs_diff(expected) <= 1, "place {place}, {head:?}");
                }
            }
        }
        assert!(rest.is_empty(), "{} weights too many", rest.len());
    }

    #[test]
    fn what_does_not_fit_is_shown_in_cells() {
        // 16 regions of 5 × 6 tokens, 3 routed: 1440 weights, three times that with heads.
        let maps = routed([20, 24], 4, 3);
        check(&maps, 3 * 1440, 1);
        check(&maps, 3 * 1440 - 1, 1);
        check(&maps, 1439, 2); // 3 × 3 cells a region
        check(&maps, 200, 3); // 2 × 2
        check(&maps, 48, 6); // a region is one cell
        // 42 tokens, then 4 × 3 cells, the last ones smaller.
        let maps = full([7, 6], 2);
        check(&maps, 3 * 42 * 42, 1);
        check(&maps, 42 * 42, 1);
        check(&maps, 42 * 42 - 1, 2);
        check(&maps, 1, 7);
    }

    /// The maps of stages 3 and 4 of BiFormer-T at 2048 px and a picture of noise, which is as large as
    /// a JPEG can be.
    #[test]
    fn a_page_stays_below_5_megabytes() {
        let [stage_3, stage_4] = [routed([128, 128], 7, 16), full([64, 64], 1)];
        let stages = [vec![stage_3; 2], vec![stage_4; 2]];
        let mut seed = 1u32;
        let picture = RgbImage::from_fn(640, 640, |_, _| {
            image::Rgb([0; 3].map(|_: u8| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            }))
        });
        let page = Page { title: "noise", subtitle: "", picture: &picture, stages: &stages };
        let page = attention_page(&page);
        assert!((2_000_000..5_000_000).contains(&page.len()), "{} bytes", page.len());
    }
}
