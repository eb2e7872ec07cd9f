//! Boxes, names, scores and masks over their picture.

use image::{Rgb, RgbImage};

use super::text::{CHAR_WIDTH, LINE_HEIGHT, blend, draw_text};
use crate::data::detection::Rle;

/// Free space around the letters of a name.
const GAP: u32 = 2;

/// Pixels of the picture's longer side for one pixel of a line's width.
const SIDE_OF_LINE: u32 = 320;

/// A thing to draw.
#[derive(Debug, Clone, Copy)]
pub struct DrawnInstance<'a> {
    /// Left, top, right and bottom in pixels of the picture.
    pub bbox: [f32; 4],
    /// What it is called.
    pub name: &'a str,
    /// How sure the detector is, from 0 to 1; without it only the name is written.
    pub score: Option<f32>,
    /// Its pixels, of the size of the picture.
    pub mask: Option<&'a Rle>,
    /// Of box and mask.
    pub color: [u8; 3],
}

/// Draws things over a picture, the last on top: masks, then boxes, then names.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
///
/// # Panics
/// If a mask has another size than the picture.
pub fn draw_instances(image: &RgbImage, things: &[DrawnInstance<'_>], opacity: f32) -> RgbImage {
    let mut picture = image.clone();
    let ink = (255.0 * opacity.clamp(0.0, 1.0)).round() as u8;
    for DrawnInstance { mask, color, .. } in things {
        if let Some(mask) = mask {
            let mask = mask.decode();
            assert_eq!(mask.dimensions(), image.dimensions(), "expected the size of the picture");
            for (pixel, inside) in picture.pixels_mut().zip(mask.as_raw()) {
                *pixel = blend(*pixel, Rgb(*color), inside * ink);
            }
        }
    }
    let line = (image.width().max(image.height()) / SIDE_OF_LINE).max(1);
    for thing in things {
        draw_box(&mut picture, thing.bbox, line, Rgb(thing.color));
    }
    for thing in things {
        draw_name(&mut picture, thing, line);
    }
    picture
}

/// Light colours that differ as much as they can from those before them.
pub fn instance_palette(classes: usize) -> Vec<[u8; 3]> {
    // Hues a golden section of the circle apart never come close to each other again soon.
    const GOLDEN: f32 = 0.618_034;
    let color = |class: usize| {
        let hue = 6.0 * (class as f32 * GOLDEN).fract();
        // Every second round a little paler.
        let (least, most) = if class.is_multiple_of(2) { (0.15, 1.0) } else { (0.4, 0.95) };
        // Red, green and blue rise and fall along the circle, a third of it apart.
        [0.0, 2.0, 4.0].map(|shift| {
            let along = (hue - shift).rem_euclid(6.0);
            let share = ((along - 3.0).abs() - 1.0).clamp(0.0, 1.0);
            (255.0 * (least + (most - least) * share)).round() as u8
        })
    };
    (0..classes).map(color).collect()
}

/// The outline of a box, its lines within it.
fn draw_box(picture: &mut RgbImage, bbox: [f32; 4], line: u32, color: Rgb<u8>) {
    let [left, top, right, bottom] = corners(bbox, picture.dimensions());
    let is_line = |at: u32, first: u32, end: u32| at < first + line || at + line >= end;
    for y in top..bottom {
        if is_line(y, top, bottom) {
            (left..right).for_each(|x| picture.put_pixel(x, y, color));
        } else {
            let sides =
                (left..right.min(left + line)).chain(left.max(right.saturating_sub(line))..right);
            sides.for_each(|x| picture.put_pixel(x, y, color));
        }
    }
}

/// The name and score on a patch of the colour: above the box, or in it where there is no room.
fn draw_name(picture: &mut RgbImage, thing: &DrawnInstance<'_>, line: u32) {
    let (width, height) = picture.dimensions();
    let [left, top, ..] = corners(thing.bbox, (width, height));
    let text = match thing.score {
        Some(score) => format!("{} {score:.2}", thing.name),
        None => thing.name.to_owned(),
    };
    let patch = [text.chars().count() as u32 * CHAR_WIDTH + 2 * GAP, LINE_HEIGHT + GAP];
    let left = left.min(width.saturating_sub(patch[0]));
    let top = top.checked_sub(patch[1]).unwrap_or(top + line);
    for y in top..(top + patch[1]).min(height) {
        (left..(left + patch[0]).min(width))
            .for_each(|x| picture.put_pixel(x, y, Rgb(thing.color)));
    }
    let [red, green, blue] = thing.color.map(u32::from);
    let is_light = 299 * red + 587 * green + 114 * blue > 128_000;
    let ink = Rgb(if is_light { [0; 3] } else { [255; 3] });
    draw_text(picture, [left + GAP, top + GAP / 2], &text, ink);
}

/// First and end of the columns and rows of a box, within the picture and at least a pixel.
fn corners(bbox: [f32; 4], (width, height): (u32, u32)) -> [u32; 4] {
    let axis = |first: f32, end: f32, side: u32| {
        let first = (first.max(0.0) as u32).min(side - 1);
        [first, (end.max(0.0).ceil() as u32).clamp(first + 1, side)]
    };
    let [left, right] = axis(bbox[0], bbox[2], width);
    let [top, bottom] = axis(bbox[1], bbox[3], height);
    [left, top, right, bottom]
}
