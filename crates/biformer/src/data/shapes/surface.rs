//! What a thing is made of: two related colours and the pattern they form.

use std::f32::consts::TAU;
use std::ops::Range;

use rand::{RngExt, rngs::StdRng};

use super::outline::{Point, length};

/// Red, green, blue in 0..=1, as stored in a picture (sRGB).
pub(super) type Color = [f32; 3];

/// Two colours and their pattern.
#[derive(Debug, Clone)]
pub(super) struct Surface {
    colors: [Color; 2],
    pattern: Pattern,
    period: f32,
    /// Cosine and sine of the pattern's rotation.
    direction: Point,
    offset: Point,
}

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Plain,
    Stripes,
    Checks,
    Dots,
    /// Smooth random blotches (value noise).
    Blotches,
}

impl Surface {
    /// A random surface around a colour of this lightness (0 black, 1 white).
    pub fn sample(lightness: Range<f32>, rng: &mut StdRng) -> Self {
        const PATTERNS: [Pattern; 5] =
            [Pattern::Plain, Pattern::Stripes, Pattern::Checks, Pattern::Dots, Pattern::Blotches];
        let base = Oklch::sample(lightness, rng);
        let angle = rng.random_range(0.0..TAU);
        Self {
            colors: [base.to_srgb(), base.related(rng).to_srgb()],
            pattern: PATTERNS[rng.random_range(0..PATTERNS.len())],
            period: rng.random_range(0.20..0.45),
            direction: [angle.cos(), angle.sin()],
            offset: [rng.random_range(0.0..64.0), rng.random_range(0.0..64.0)],
        }
    }

    /// The colour at a point; edges inside the pattern are one `pixel` wide.
    pub fn color_at(&self, [x, y]: Point, pixel: f32) -> Color {
        let [cos, sin] = self.direction;
        let u = (x * cos + y * sin) / self.period + self.offset[0];
        let v = (y * cos - x * sin) / self.period + self.offset[1];
        let pixel = pixel / self.period;
        let share = match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Stripes => bands(u, pixel),
            Pattern::Checks => {
                let (columns, rows) = (bands(u / 2.0, pixel / 2.0), bands(v / 2.0, pixel / 2.0));
                columns + rows - 2.0 * columns * rows
            }
            Pattern::Dots => {
                let center = [u - u.floor() - 0.5, v - v.floor() - 0.5];
                coverage(length(center) - 0.3, pixel)
            }
            Pattern::Blotches => blotches(u, v),
        };
        mix(self.colors[0], self.colors[1], share)
    }
}

/// A colour by perceived lightness, colourfulness and hue (Ottosson's Oklab, in polar form):
/// random colours look related, and lightness is what the eye takes for it.
#[derive(Debug, Clone, Copy)]
struct Oklch {
    lightness: f32,
    chroma: f32,
    hue: f32,
}

impl Oklch {
    /// Any hue, from muted to vivid.
    fn sample(lightness: Range<f32>, rng: &mut StdRng) -> Self {
        Self {
            lightness: rng.random_range(lightness),
            chroma: rng.random_range(0.04..0.16),
            hue: rng.random_range(0.0..TAU),
        }
    }

    /// A lighter or darker neighbour, the second colour of a pattern.
    fn related(self, rng: &mut StdRng) -> Self {
        let step = rng.random_range(0.05..0.09);
        let step = if rng.random_bool(0.5) { step } else { -step };
        let hue = self.hue + rng.random_range(-0.4..0.4);
        Self { lightness: self.lightness + step, hue, ..self }
    }

    /// Constants from <https://bottosson.github.io/posts/oklab/>; colours that no screen can
    /// show are clipped.
    fn to_srgb(self) -> Color {
        let Self { lightness, chroma, hue } = self;
        let [a, b] = [chroma * hue.cos(), chroma * hue.sin()];
        let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
        let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
        let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
        let linear = [
            4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
            -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
            -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
        ];
        linear.map(|channel| {
            let channel = channel.clamp(0.0, 1.0);
            if channel <= 0.003_130_8 {
                12.92 * channel
            } else {
                1.055 * channel.powf(1.0 / 2.4) - 0.055
            }
        })
    }
}

/// The share of a pixel that lies inside an edge at signed distance `distance`.
pub(super) fn coverage(distance: f32, pixel: f32) -> f32 {
    (0.5 - distance / pixel).clamp(0.0, 1.0)
}

/// `share` of `over` on `under`.
pub(super) fn mix(under: Color, over: Color, share: f32) -> Color {
    std::array::from_fn(|channel| under[channel] + share * (over[channel] - under[channel]))
}

/// Bands of half a period, 1 inside and 0 between.
fn bands(u: f32, pixel: f32) -> f32 {
    coverage((u - u.floor() - 0.5).abs() - 0.25, pixel)
}

/// Two octaves of value noise, stretched to use most of 0..=1.
fn blotches(u: f32, v: f32) -> f32 {
    let noise = 0.65 * value_noise(u, v) + 0.35 * value_noise(2.0 * u, 2.0 * v);
    (1.8 * (noise - 0.5) + 0.5).clamp(0.0, 1.0)
}

/// Random values on the integer lattice, smoothly interpolated.
fn value_noise(u: f32, v: f32) -> f32 {
    let (column, row) = (u.floor(), v.floor());
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (across, down) = (smooth(u - column), smooth(v - row));
    let corner = |i, j| lattice_value(column as i32 + i, row as i32 + j);
    let top = corner(0, 0) + across * (corner(1, 0) - corner(0, 0));
    let bottom = corner(0, 1) + across * (corner(1, 1) - corner(0, 1));
    top + down * (bottom - top)
}

/// A fixed pseudo-random value in 0..1 for each lattice point (the mixer of MurmurHash3).
fn lattice_value(column: i32, row: i32) -> f32 {
    let mut hash = (column as u32).wrapping_mul(0x9e37_79b1) ^ (row as u32).rotate_left(16);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    ((hash ^ (hash >> 16)) >> 8) as f32 / (1 << 24) as f32
}
