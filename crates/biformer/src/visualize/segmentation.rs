//! Label maps as colours over their picture.

use image::{Rgb, RgbImage};

use super::text::{CHAR_WIDTH, LINE_HEIGHT, blend, draw_text, shorten};
use crate::data::segmentation::{SegMap, class_areas};

const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const INK: Rgb<u8> = Rgb([32, 33, 36]);

/// Free space around the legend.
const GAP: u32 = 8;

/// Width of the legend: a patch of colour, a name of up to 18 letters, a share.
const LEGEND: u32 = LINE_HEIGHT + 26 * CHAR_WIDTH + 3 * GAP;

/// Blends the colour of each pixel's class over the picture. Where the map says
/// [`IGNORE_INDEX`](crate::data::segmentation::IGNORE_INDEX), the picture stays as it is.
///
/// # Shapes
/// - image: `[height, width, 3]`
/// - map: `[height, width]`
///
/// # Panics
/// If their sizes differ.
pub fn overlay(image: &RgbImage, map: &SegMap, palette: &[[u8; 3]], opacity: f32) -> RgbImage {
    assert_eq!(image.dimensions(), map.dimensions(), "expected a class for each pixel");
    let ink = (255.0 * opacity.clamp(0.0, 1.0)).round() as u8;
    let mut output = image.clone();
    for (pixel, class) in output.pixels_mut().zip(map.as_raw()) {
        if let Some(&color) = palette.get(usize::from(*class)) {
            *pixel = blend(*pixel, Rgb(color), ink);
        }
    }
    output
}

/// [`overlay`] with a legend to its right: the classes by their share of the pixels, largest first, as
/// far as there is room.
pub fn draw_segmentation(
    image: &RgbImage,
    map: &SegMap,
    classes: &[String],
    palette: &[[u8; 3]],
    opacity: f32,
) -> RgbImage {
    let picture = overlay(image, map, palette, opacity);
    let areas = class_areas(map, classes.len());
    let mut present: Vec<usize> = (0..classes.len()).filter(|&class| areas[class] > 0.0).collect();
    present.sort_by(|&a, &b| areas[b].total_cmp(&areas[a]));

    let height = picture.height().max(LINE_HEIGHT + 2 * GAP);
    let mut sheet = RgbImage::from_pixel(picture.width() + LEGEND, height, PAPER);
    image::imageops::replace(&mut sheet, &picture, 0, 0);
    let left = picture.width() + GAP;
    let lines = (GAP..height - LINE_HEIGHT).step_by(LINE_HEIGHT as usize + 4);
    for (class, top) in present.into_iter().zip(lines) {
        for (x, y) in (0..LINE_HEIGHT).flat_map(|y| (0..LINE_HEIGHT).map(move |x| (x, y))) {
            sheet.put_pixel(left + x, top + y, Rgb(palette[class]));
        }
        let name = shorten(&classes[class], 18 * CHAR_WIDTH);
        let text = format!("{name:<18} {:>6.2}%", 100.0 * areas[class]);
        draw_text(&mut sheet, [left + LINE_HEIGHT + GAP, top], &text, INK);
    }
    sheet
}
