//! Operations on places: affine maps, and the mirror.
//!
//! Every output pixel asks where it comes from. Pixel (x, y) has its centre at (x + 1/2, y + 1/2);
//! a source place outside the picture gives the fill colour.

use image::{Rgb, RgbImage};

use crate::data::resample::Filter;

/// Output place to source place: `(a·x + b·y + c, d·x + e·y + f)` as `[a, b, c, d, e, f]`.
type AffineMap = [f64; 6];

/// Turns the picture counter-clockwise about its centre; the corners are filled.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn rotate(image: &RgbImage, degrees: f64, filter: Filter, fill: Rgb<u8>) -> RgbImage {
    let (center_x, center_y) = (f64::from(image.width()) / 2.0, f64::from(image.height()) / 2.0);
    // Fifteen decimals, as in Pillow: at 90 degrees the cosine is zero, and no border pixel falls outside.
    let round = |value: f64| (value * 1e15).round() / 1e15;
    let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
    let (sin, cos) = (round(sin), round(cos));
    let c = center_x - cos * center_x - sin * center_y;
    let f = center_y + sin * center_x - cos * center_y;
    affine(image, [cos, sin, c, -sin, cos, f], filter, fill)
}

/// Moves each row to the left by `factor` times its distance from the top.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn shear_x(image: &RgbImage, factor: f64, filter: Filter, fill: Rgb<u8>) -> RgbImage {
    affine(image, [1.0, factor, 0.0, 0.0, 1.0, 0.0], filter, fill)
}

/// Moves each column up by `factor` times its distance from the left.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn shear_y(image: &RgbImage, factor: f64, filter: Filter, fill: Rgb<u8>) -> RgbImage {
    affine(image, [1.0, 0.0, 0.0, factor, 1.0, 0.0], filter, fill)
}

/// Moves the picture to the left by `pixels`, which may be negative or a fraction.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn translate_x(image: &RgbImage, pixels: f64, filter: Filter, fill: Rgb<u8>) -> RgbImage {
    affine(image, [1.0, 0.0, pixels, 0.0, 1.0, 0.0], filter, fill)
}

/// Moves the picture up by `pixels`, which may be negative or a fraction.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn translate_y(image: &RgbImage, pixels: f64, filter: Filter, fill: Rgb<u8>) -> RgbImage {
    affine(image, [1.0, 0.0, 0.0, 0.0, 1.0, pixels], filter, fill)
}

/// The mirror image.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn hflip(image: &RgbImage) -> RgbImage {
    image::imageops::flip_horizontal(image)
}

fn affine(image: &RgbImage, map: AffineMap, filter: Filter, fill: Rgb<u8>) -> RgbImage {
    let [a, b, c, d, e, f] = map;
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        sample(image, a * x + b * y + c, d * x + e * y + f, filter).unwrap_or(fill)
    })
}

/// The colour at a place of the picture, or nothing outside it. The edge pixels go on for ever.
fn sample(image: &RgbImage, x: f64, y: f64, filter: Filter) -> Option<Rgb<u8>> {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    if !(0.0..width).contains(&x) || !(0.0..height).contains(&y) {
        return None;
    }
    let (x, y) = (x - 0.5, y - 0.5); // from edges to pixel centres
    let (column, row) = (x.floor(), y.floor());
    let (columns, rows) = (neighbours(column, image.width()), neighbours(row, image.height()));
    let needed = match filter {
        Filter::Bilinear => 1..3, // the outer two weigh nothing
        Filter::Bicubic => 0..4,
    };

    let mut along_rows = [[0.0; 3]; 4];
    for row_index in needed.clone() {
        let mut pixels = [[0.0; 3]; 4];
        for column_index in needed.clone() {
            let start = (rows[row_index] * image.width() as usize + columns[column_index]) * 3;
            let levels = &image.as_raw()[start..start + 3];
            pixels[column_index] = [levels[0], levels[1], levels[2]].map(f64::from);
        }
        along_rows[row_index] = interpolate(pixels, x - column, filter);
    }
    let color = interpolate(along_rows, y - row, filter);
    Some(Rgb(color.map(|level| level as u8))) // truncates, as Pillow does, and clips
}

/// The pixels at -1, 0, 1 and 2 from `origin`, held inside the picture.
fn neighbours(origin: f64, size: u32) -> [usize; 4] {
    [-1, 0, 1, 2].map(|offset| (origin as i64 + offset).clamp(0, i64::from(size) - 1) as usize)
}

/// The colour `t` of the way from the second to the third of four neighbours.
///
/// Written as value plus correction: exact where all four are equal, which the truncation needs.
fn interpolate([before, here, next, after]: [[f64; 3]; 4], t: f64, filter: Filter) -> [f64; 3] {
    std::array::from_fn(|channel| {
        let (before, here, next, after) =
            (before[channel], here[channel], next[channel], after[channel]);
        match filter {
            Filter::Bilinear => here + (next - here) * t,
            // Keys' cubic with a = -1, sharper than the a = -1/2 of Pillow's own resize.
            Filter::Bicubic => {
                let slope = next - before;
                let bend = 2.0 * (before - here) + next - after;
                let twist = here - before + after - next;
                here + t * (slope + t * (bend + t * twist))
            }
        }
    })
}
