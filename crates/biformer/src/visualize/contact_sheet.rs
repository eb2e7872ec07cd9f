//! Many predictions at a glance: pictures in rows, each with its verdict below.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::text::{CHAR_WIDTH, LINE_HEIGHT, draw_text, shorten};

/// Largest side of a picture on the sheet.
const PICTURE: u32 = 128;
/// Width of the coloured frame.
const FRAME: u32 = 4;
/// Free space around a tile.
const GAP: u32 = 12;
/// Free space between picture and caption.
const CAPTION_GAP: u32 = 3;

const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const MAT: Rgb<u8> = Rgb([228, 228, 224]);
const INK: Rgb<u8> = Rgb([32, 33, 36]);
const FAINT_INK: Rgb<u8> = Rgb([110, 112, 118]);
const RIGHT: Rgb<u8> = Rgb([38, 150, 84]);
const WRONG: Rgb<u8> = Rgb([206, 50, 52]);
const UNKNOWN: Rgb<u8> = Rgb([168, 170, 176]);

/// One picture and what was said about it.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// The picture, of any size and shape.
    pub image: &'a RgbImage,
    /// The true class, if it is known.
    pub label: Option<&'a str>,
    /// The predicted class.
    pub prediction: &'a str,
    /// The probability of the predicted class, in 0..=1.
    pub probability: f32,
}

impl Tile<'_> {
    /// The truth, if it is known and another than the prediction.
    fn missed(&self) -> Option<&str> {
        self.label.filter(|label| *label != self.prediction)
    }

    fn frame_color(&self) -> Rgb<u8> {
        match (self.label, self.missed()) {
            (None, _) => UNKNOWN,
            (Some(_), None) => RIGHT,
            (Some(_), Some(_)) => WRONG,
        }
    }
}

/// Draws `tiles` row by row, `columns` in a row.
///
/// The frame is green for a right and red for a wrong prediction, grey where the truth is not
/// known. Below stand the predicted class with its probability, and the truth where it is another.
/// A sheet of fewer tiles than `columns` is as wide as its tiles.
///
/// # Panics
/// If there are no tiles or no columns.
pub fn contact_sheet(tiles: &[Tile<'_>], columns: usize) -> RgbImage {
    assert!(!tiles.is_empty(), "tiles: got: 0, expected: at least 1");
    assert!(columns > 0, "columns: got: 0, expected: at least 1");
    let columns = columns.min(tiles.len());
    let rows = tiles.len().div_ceil(columns);
    let [tile_width, tile_height] = tile_size(tiles);
    let [step_x, step_y] = [tile_width + GAP, tile_height + GAP];

    let (width, height) = (GAP + columns as u32 * step_x, GAP + rows as u32 * step_y);
    let mut sheet = RgbImage::from_pixel(width, height, PAPER);
    for (place, tile) in tiles.iter().enumerate() {
        let (row, column) = (place / columns, place % columns);
        draw_tile(&mut sheet, tile, [GAP + column as u32 * step_x, GAP + row as u32 * step_y]);
    }
    sheet
}

/// Width and height of each tile; the line for the truth is there only if a tile needs it.
fn tile_size(tiles: &[Tile<'_>]) -> [u32; 2] {
    let side = PICTURE + 2 * FRAME;
    let lines = if tiles.iter().any(|tile| tile.missed().is_some()) { 2 } else { 1 };
    [side, side + CAPTION_GAP + lines * LINE_HEIGHT]
}

fn draw_tile(sheet: &mut RgbImage, tile: &Tile<'_>, [x, y]: [u32; 2]) {
    let side = PICTURE + 2 * FRAME;
    fill(sheet, [x, y], side, tile.frame_color());
    fill(sheet, [x + FRAME, y + FRAME], PICTURE, MAT);

    let picture = fit(tile.image);
    let left = x + FRAME + (PICTURE - picture.width()) / 2;
    let top = y + FRAME + (PICTURE - picture.height()) / 2;
    imageops::replace(sheet, &picture, left.into(), top.into());

    let percent = format!("{:.0}%", 100.0 * tile.probability.clamp(0.0, 1.0));
    let percent_width = percent.len() as u32 * CHAR_WIDTH;
    let name = shorten(tile.prediction, side - percent_width - CHAR_WIDTH);
    let baseline = y + side + CAPTION_GAP;
    draw_text(sheet, [x, baseline], &name, INK);
    draw_text(sheet, [x + side - percent_width, baseline], &percent, FAINT_INK);
    if let Some(truth) = tile.missed() {
        let line = shorten(&format!("truth: {truth}"), side);
        draw_text(sheet, [x, baseline + LINE_HEIGHT], &line, WRONG);
    }
}

/// Scales a picture so that its longer side fills the tile.
fn fit(image: &RgbImage) -> RgbImage {
    let scale = PICTURE as f32 / image.width().max(image.height()) as f32;
    let side = |pixels: u32| ((pixels as f32 * scale).round() as u32).clamp(1, PICTURE);
    imageops::resize(image, side(image.width()), side(image.height()), FilterType::CatmullRom)
}

fn fill(sheet: &mut RgbImage, [left, top]: [u32; 2], side: u32, color: Rgb<u8>) {
    for y in top..top + side {
        for x in left..left + side {
            sheet.put_pixel(x, y, color);
        }
    }
}
