//! What Figure 4 of the paper shows: a query, the regions that it is routed to, and its attention.

use biformer_ops::RegionGrid;
use colorous::{Color, TURBO};
use image::imageops::{FilterType, replace, resize};
use image::{ImageBuffer, Luma, Rgb, RgbImage};

use super::AttentionMaps;
use super::text::{LINE_HEIGHT, blend, draw_text};

/// Free space around a panel.
const GAP: u32 = 12;
const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const INK: Rgb<u8> = Rgb([32, 33, 36]);
const WHITE: Rgb<u8> = Rgb([255; 3]);
const BLACK: Rgb<u8> = Rgb([0; 3]);
const QUERY: Rgb<u8> = Rgb([230, 38, 60]);
const ROUTED: Rgb<u8> = Rgb([255, 200, 40]);
/// Of 255 parts, how much of a region that is not routed is black, and how much of the heat map is colour.
const SHADE: u8 = 165;
const HEAT: u8 = 150;

/// Three panels side by side: the query, the regions that its region is routed to (all others dark),
/// and how much it attends to each place, from blue (nothing) to red (the most).
///
/// # Shapes
/// - picture: `[height, width, 3]`, what the model saw, at any resolution
/// - query: from the left and from above, in 0..1
///
/// # Panics
/// If the query lies outside, or there is no such head.
pub fn draw_attention(
    picture: &RgbImage,
    maps: &AttentionMaps,
    query: [f64; 2],
    head: Option<usize>,
) -> RgbImage {
    let token = token_at(maps, query);
    let captions = match maps.grid() {
        Some(grid) => {
            let topk = maps.routed_regions(maps.region_of(token)).len();
            let regions = format!("routed: {topk} of {} regions", grid.regions());
            ["query".to_owned(), regions, attention_caption(maps, head)]
        }
        None => ["query".to_owned(), "attends to all".to_owned(), attention_caption(maps, head)],
    };
    let mut panels = [
        picture.clone(),
        routed_regions(picture, maps, token),
        heat_map(picture, &maps.weights(token, head), maps.size()),
    ];
    let (width, height) = picture.dimensions();
    let [step_x, step_y] = [width + GAP, height + GAP + LINE_HEIGHT];
    let mut sheet = RgbImage::from_pixel(GAP + 3 * step_x, GAP + step_y, PAPER);
    for (i, (panel, caption)) in panels.iter_mut().zip(captions).enumerate() {
        mark(panel, query);
        let left = GAP + i as u32 * step_x;
        draw_text(&mut sheet, [left, GAP / 2], &caption, INK);
        replace(&mut sheet, panel, left.into(), i64::from(GAP / 2 + LINE_HEIGHT + GAP / 2));
    }
    sheet
}

/// The heat map alone, with the query on it: the third panel of [`draw_attention`].
pub fn draw_heat_map(
    picture: &RgbImage,
    maps: &AttentionMaps,
    query: [f64; 2],
    head: Option<usize>,
) -> RgbImage {
    let weights = maps.weights(token_at(maps, query), head);
    let mut panel = heat_map(picture, &weights, maps.size());
    mark(&mut panel, query);
    panel
}

/// Row and column of the token at a place of the picture.
fn token_at(maps: &AttentionMaps, [x, y]: [f64; 2]) -> [usize; 2] {
    assert!((0.0..1.0).contains(&x) && (0.0..1.0).contains(&y), "a query at {x}, {y}");
    let [height, width] = maps.size();
    [(y * height as f64) as usize, (x * width as f64) as usize]
}

fn attention_caption(maps: &AttentionMaps, head: Option<usize>) -> String {
    match (head, maps.num_heads()) {
        (Some(head), _) => format!("attention, head {head}"),
        (None, 1) => "attention, the one head".to_owned(),
        (None, heads) => format!("attention, mean of {heads} heads"),
    }
}

/// The picture with all but the routed regions in the dark.
fn routed_regions(picture: &RgbImage, maps: &AttentionMaps, query: [usize; 2]) -> RgbImage {
    let mut panel = picture.clone();
    let Some(grid) = maps.grid() else { return panel };
    for pixel in panel.pixels_mut() {
        *pixel = blend(*pixel, BLACK, SHADE);
    }
    let own = maps.region_of(query);
    for &region in maps.routed_regions(own) {
        let [left, top, right, bottom] = edges(grid, region, picture.dimensions());
        for y in top..bottom {
            for x in left..right {
                panel.put_pixel(x, y, *picture.get_pixel(x, y));
            }
        }
    }
    for &region in maps.routed_regions(own) {
        outline(&mut panel, edges(grid, region, picture.dimensions()), ROUTED);
    }
    outline(&mut panel, edges(grid, own, picture.dimensions()), QUERY);
    panel
}

/// Left, top, right and bottom of a region in pixels; of padding nothing is left.
fn edges(grid: &RegionGrid, region: usize, (width, height): (u32, u32)) -> [u32; 4] {
    let (row, col) = (region / grid.cols, region % grid.cols);
    let pixel = |token: usize, tokens: usize, pixels: u32| {
        (token.min(tokens) as f64 / tokens as f64 * f64::from(pixels)).round() as u32
    };
    [
        pixel(col * grid.region_width, grid.width, width),
        pixel(row * grid.region_height, grid.height, height),
        pixel((col + 1) * grid.region_width, grid.width, width),
        pixel((row + 1) * grid.region_height, grid.height, height),
    ]
}

fn outline(panel: &mut RgbImage, [left, top, right, bottom]: [u32; 4], color: Rgb<u8>) {
    for y in top..bottom {
        for x in left..right {
            let distance = (x - left).min(right - 1 - x).min(y - top).min(bottom - 1 - y);
            if distance < 2 {
                panel.put_pixel(x, y, color);
            }
        }
    }
}

/// The picture in grey under the colours of the weights, which are scaled to the largest.
fn heat_map(picture: &RgbImage, weights: &[f32], [rows, cols]: [usize; 2]) -> RgbImage {
    let most = weights.iter().fold(f32::MIN_POSITIVE, |most, &weight| most.max(weight));
    let scaled: Vec<f32> = weights.iter().map(|weight| weight / most).collect();
    let heat: ImageBuffer<Luma<f32>, _> =
        ImageBuffer::from_raw(cols as u32, rows as u32, scaled).expect("a weight for each token");
    let (width, height) = picture.dimensions();
    let heat = resize(&heat, width, height, FilterType::Triangle);
    let mut panel = picture.clone();
    for (pixel, &Luma([heat])) in panel.pixels_mut().zip(heat.pixels()) {
        let [r, g, b] = pixel.0.map(f32::from);
        let grey = (0.299 * r + 0.587 * g + 0.114 * b) as u8;
        let Color { r, g, b } = TURBO.eval_continuous(f64::from(heat.clamp(0.0, 1.0)));
        *pixel = blend(Rgb([grey; 3]), Rgb([r, g, b]), HEAT);
    }
    panel
}

/// A dot in a ring.
fn mark(panel: &mut RgbImage, [x, y]: [f64; 2]) {
    let (width, height) = panel.dimensions();
    let (x, y) = (x * f64::from(width), y * f64::from(height));
    let radius = f64::from(width.min(height)) / 50.0 + 2.0;
    for (column, row, pixel) in panel.enumerate_pixels_mut() {
        let distance = (f64::from(column) + 0.5 - x).hypot(f64::from(row) + 0.5 - y);
        if distance < radius {
            *pixel = QUERY;
        } else if distance < radius + 2.0 {
            *pixel = WHITE;
        }
    }
}
