//! Text on pictures, in Noto Sans Mono: rasterised beforehand, so no font has to be installed.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{
    FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width,
};

/// Height of a line in pixels.
pub(super) const LINE_HEIGHT: u32 = SIZE.val() as u32;

/// Width of every character in pixels.
pub(super) const CHAR_WIDTH: u32 = get_raster_width(FontWeight::Regular, SIZE) as u32;

const SIZE: RasterHeight = RasterHeight::Size16;

/// Where a line of text runs.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Right,
    /// Turned to the left: it begins at the bottom.
    Up,
}

/// Stroke of the letters.
#[derive(Clone, Copy)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// Draws one line with its upper left corner at (`x`, `y`); what leaves the picture is cut off.
///
/// Characters beyond Latin-1 become question marks.
pub(super) fn draw_text(image: &mut RgbImage, [x, y]: [u32; 2], text: &str, color: Rgb<u8>) {
    draw(image, [x as i32, y as i32], text, color, Direction::Right, Weight::Regular);
}

/// [`draw_text`] in any way; `corner` is where the first letter has its upper left corner, of a
/// line that goes up its lower left one.
pub(super) fn draw(
    image: &mut RgbImage,
    corner: [i32; 2],
    text: &str,
    color: Rgb<u8>,
    direction: Direction,
    weight: Weight,
) {
    for (place, character) in text.chars().enumerate() {
        let left = place * CHAR_WIDTH as usize;
        for (down, line) in glyph(character, weight).rows().enumerate() {
            for (column, &ink) in line.iter().enumerate() {
                let (along, down) = ((left + column) as i32, down as i32);
                let [x, y] = match direction {
                    Direction::Right => [corner[0] + along, corner[1] + down],
                    Direction::Up => [corner[0] + down, corner[1] - along],
                };
                let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { continue };
                if let Some(pixel) = image.get_pixel_mut_checked(x, y) {
                    *pixel = blend(*pixel, color, ink);
                }
            }
        }
    }
}

/// `text` if it fits `width` pixels, else its beginning and two dots.
pub(super) fn shorten(text: &str, width: u32) -> String {
    let room = (width / CHAR_WIDTH) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(room.saturating_sub(2)).collect();
    format!("{}..", beginning.trim_end())
}

fn glyph(character: char, weight: Weight) -> RasterizedChar {
    let weight = match weight {
        Weight::Regular => FontWeight::Regular,
        Weight::Bold => FontWeight::Bold,
    };
    get_raster(character, weight, SIZE)
        .or_else(|| get_raster('?', weight, SIZE))
        .expect("the font holds a question mark")
}

/// `ink` of 255 parts of `color` on `paper`.
pub(super) fn blend(paper: Rgb<u8>, color: Rgb<u8>, ink: u8) -> Rgb<u8> {
    let [paper, color, ink] = [paper.0.map(u32::from), color.0.map(u32::from), [u32::from(ink); 3]];
    Rgb(std::array::from_fn(|i| ((paper[i] * (255 - ink[i]) + color[i] * ink[i]) / 255) as u8))
}
