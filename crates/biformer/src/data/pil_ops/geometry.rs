//! Operations on places: affine maps, and the mirror.
//!
//! Every output pixel asks where it comes from. Pixel (x, y) has its centre at (x + 1/2, y + 1/2);
//! a source place outside the picture gives the fill colour.

use image::{Rgb, RgbImage};
use pulp::{Arch, Simd, WithSimd};

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
    let mut output = RgbImage::from_pixel(image.width(), image.height(), fill);
    match filter {
        Filter::Bilinear => {
            Arch::new().dispatch(Affine { image, map, interpolate: bilinear, output: &mut output })
        }
        Filter::Bicubic => {
            Arch::new().dispatch(Affine { image, map, interpolate: bicubic, output: &mut output })
        }
    }
    output
}

/// The levels of a pixel, and a fourth that fills the vector.
type Color = [f64; 4];

/// A kernel for the widest vectors of the processor; it rounds as any other code does.
struct Affine<'a, Interpolate, const TAPS: usize> {
    image: &'a RgbImage,
    map: AffineMap,
    /// `TAPS` neighbours give the colour a part of the way from the middle one to the next.
    interpolate: Interpolate,
    /// As large as the image, filled.
    output: &'a mut RgbImage,
}

impl<const TAPS: usize, Interpolate> WithSimd for Affine<'_, Interpolate, TAPS>
where
    Interpolate: Fn([Color; TAPS], f64) -> Color,
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { image, map: [a, b, c, d, e, f], interpolate, output } = self;
        let (width, height) = image.dimensions();
        for (x, y, output) in output.enumerate_pixels_mut() {
            let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
            let (x, y) = (a * x + b * y + c, d * x + e * y + f);
            if !(0.0..f64::from(width)).contains(&x) || !(0.0..f64::from(height)).contains(&y) {
                continue; // stays filled
            }
            let (x, y) = (x - 0.5, y - 0.5); // from edges to pixel centres
            let color = between(
                y,
                height,
                &interpolate,
                #[inline(always)]
                |row| {
                    between(
                        x,
                        width,
                        &interpolate,
                        #[inline(always)]
                        |column| pixel(image, row, column),
                    )
                },
            );
            // Truncates, as Pillow does, and clips.
            *output = Rgb([color[0] as u8, color[1] as u8, color[2] as u8]);
        }
    }
}

#[inline(always)]
fn pixel(image: &RgbImage, row: usize, column: usize) -> Color {
    let start = 3 * (row * image.width() as usize + column);
    let levels = &image.as_raw()[start..start + 3];
    [f64::from(levels[0]), f64::from(levels[1]), f64::from(levels[2]), 0.0]
}

/// The colour at `place` on a line of `size` colours. Those at its ends go on for ever.
#[inline(always)]
fn between<const TAPS: usize>(
    place: f64,
    size: u32,
    interpolate: &impl Fn([Color; TAPS], f64) -> Color,
    color: impl Fn(usize) -> Color,
) -> Color {
    // The floor; places begin at -1/2, and the call of `floor` would take longer than all of this.
    let origin = place as i32 - i32::from(place < 0.0);
    let part = place - f64::from(origin);
    if part == 0.0 {
        return color(origin as usize); // along one of the axes of every shear and shift
    }
    let before = TAPS as i32 / 2 - 1;
    let neighbour = |tap: usize| (origin + tap as i32 - before).clamp(0, size as i32 - 1) as usize;
    let mut colors = [[0.0; 4]; TAPS];
    for (tap, here) in colors.iter_mut().enumerate() {
        *here = color(neighbour(tap));
    }
    interpolate(colors, part)
}

// Written as value plus correction: exact where all neighbours are equal, which the truncation needs.

#[inline(always)]
fn bilinear([here, next]: [Color; 2], part: f64) -> Color {
    std::array::from_fn(|channel| here[channel] + (next[channel] - here[channel]) * part)
}

/// Keys' cubic with a = -1, sharper than the a = -1/2 of Pillow's own resize.
#[inline(always)]
fn bicubic([before, here, next, after]: [Color; 4], part: f64) -> Color {
    std::array::from_fn(|channel| {
        let (before, here, next, after) =
            (before[channel], here[channel], next[channel], after[channel]);
        let slope = next - before;
        let bend = 2.0 * (before - here) + next - after;
        let twist = here - before + after - next;
        here + part * (slope + part * (bend + part * twist))
    })
}
