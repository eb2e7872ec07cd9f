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

/// Draws one line with its upper left corner at (`x`, `y`); what leaves the picture is cut off.
///
/// Characters beyond Latin-1 become question marks.
pub(super) fn draw_text(image: &mut RgbImage, [x, y]: [u32; 2], text: &str, color: Rgb<u8>) {
    for (place, character) in text.chars().enumerate() {
        let left = x + place as u32 * CHAR_WIDTH;
        for (row, line) in glyph(character).rows().enumerate() {
            for (column, &ink) in line.iter().enumerate() {
                let (x, y) = (left + column as u32, y + row as u32);
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

fn glyph(character: char) -> RasterizedChar {
    get_raster(character, FontWeight::Regular, SIZE)
        .or_else(|| get_raster('?', FontWeight::Regular, SIZE))
        .expect("the font holds a question mark")
}

fn blend(paper: Rgb<u8>, color: Rgb<u8>, ink: u8) -> Rgb<u8> {
    let [paper, color, ink] = [paper.0.map(u32::from), color.0.map(u32::from), [u32::from(ink); 3]];
    Rgb(std::array::from_fn(|i| ((paper[i] * (255 - ink[i]) + color[i] * ink[i]) / 255) as u8))
}
