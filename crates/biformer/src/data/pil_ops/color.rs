//! Operations on levels: look-up tables, and blends with a degenerate picture.

use image::{Rgb, RgbImage};

/// What each of the 256 levels of one channel becomes.
type Table = [u8; 256];

/// Stretches each channel to the full range from 0 to 255.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn autocontrast(image: &RgbImage) -> RgbImage {
    map_channels(image, |histogram| {
        let lowest = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let highest = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
        if highest <= lowest {
            return identity_table();
        }
        let scale = 255.0 / (highest - lowest) as f64;
        let offset = -(lowest as f64) * scale;
        // The float-to-integer cast truncates and saturates: Pillow's int() and clipping in one.
        std::array::from_fn(|level| (level as f64 * scale + offset) as u8)
    })
}

/// Flattens the histogram of each channel.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn equalize(image: &RgbImage) -> RgbImage {
    map_channels(image, |histogram| {
        let Some(highest) = histogram.iter().rposition(|&count| count > 0) else {
            return identity_table();
        };
        // Pillow leaves the brightest level out of the sum, so that it lands on 255 itself.
        let step = histogram[..highest].iter().sum::<u64>() / 255;
        if step == 0 {
            return identity_table();
        }
        let mut pixels_below = step / 2;
        std::array::from_fn(|level| {
            let equalized = (pixels_below / step).min(255) as u8;
            pixels_below += histogram[level];
            equalized
        })
    })
}

/// The negative: 255 minus each level.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn invert(image: &RgbImage) -> RgbImage {
    map_levels(image, |level| 255 - level)
}

/// Keeps the `bits` highest bits of each level; 0 gives black, 8 or more the picture itself.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn posterize(image: &RgbImage, bits: u32) -> RgbImage {
    let dropped = 8 - bits.min(8);
    map_levels(image, |level| (0xFF << dropped) as u8 & level)
}

/// Inverts the levels at or above `threshold`; 256 changes nothing.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn solarize(image: &RgbImage, threshold: u32) -> RgbImage {
    map_levels(image, |level| if u32::from(level) < threshold { level } else { 255 - level })
}

/// Adds `amount` to the levels below the middle, 128: timm's `SolarizeAdd`.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn solarize_add(image: &RgbImage, amount: u8) -> RgbImage {
    map_levels(image, |level| if level < 128 { level.saturating_add(amount) } else { level })
}

/// Moves towards black (`factor` below 1) or away from it (above 1).
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn brightness(image: &RgbImage, factor: f32) -> RgbImage {
    blend_with_level(image, 0, factor)
}

/// Moves towards the greyscale picture (`factor` below 1) or away from it (above 1).
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn color(image: &RgbImage, factor: f32) -> RgbImage {
    let mut output = image.clone();
    for pixel in output.pixels_mut() {
        let grey = luma(pixel);
        pixel.0 = pixel.0.map(|level| blend(grey, level, factor));
    }
    output
}

/// Moves towards the mean grey (`factor` below 1) or away from it (above 1).
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn contrast(image: &RgbImage, factor: f32) -> RgbImage {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(pixel))).sum();
    let pixels = u64::from(image.width()) * u64::from(image.height());
    let mean = (sum as f64 / pixels as f64 + 0.5) as u8;
    blend_with_level(image, mean, factor)
}

/// Moves towards a blurred picture (`factor` below 1) or away from it (above 1).
///
/// Blurred is the mean of 3x3 pixels, the middle one counted five times; the border stays as it is.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn sharpness(image: &RgbImage, factor: f32) -> RgbImage {
    let mut output = image.clone();
    let row = 3 * image.width() as usize;
    if image.width() < 3 || image.height() < 3 {
        return output; // nothing but border
    }
    let inner = output.chunks_exact_mut(row).skip(1);
    for (sharpened, rows) in inner.zip(image.as_raw().windows(3 * row).step_by(row)) {
        let (above, middle, below) = (&rows[..row], &rows[row..2 * row], &rows[2 * row..]);
        // Three levels from one place are those of one channel, left, here and right.
        for (x, sharpened) in sharpened[3..row - 3].iter_mut().enumerate() {
            let sum =
                |row: &[u8]| u16::from(row[x]) + u16::from(row[x + 3]) + u16::from(row[x + 6]);
            let here = middle[x + 3];
            let sum = sum(above) + sum(middle) + sum(below) + 4 * u16::from(here);
            let blurred = (sum + 6) / 13; // thirteenths have no ties: +6 rounds to nearest
            *sharpened = blend(blurred as u8, here, factor);
        }
    }
    output
}

/// Pillow's integer luma (ITU-R 601).
fn luma(pixel: &Rgb<u8>) -> u8 {
    let [red, green, blue] = pixel.0.map(u32::from);
    ((19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16) as u8
}

/// `degenerate + factor · (level - degenerate)`, truncated as Pillow does, clipped to 0..=255.
fn blend(degenerate: u8, level: u8, factor: f32) -> u8 {
    let (degenerate, level) = (f32::from(degenerate), f32::from(level));
    (degenerate + factor * (level - degenerate)) as u8
}

fn blend_with_level(image: &RgbImage, degenerate: u8, factor: f32) -> RgbImage {
    let table: Table = std::array::from_fn(|level| blend(degenerate, level as u8, factor));
    map_levels(image, |level| table[usize::from(level)])
}

fn map_levels(image: &RgbImage, map: impl Fn(u8) -> u8) -> RgbImage {
    let mut output = image.clone();
    output.iter_mut().for_each(|level| *level = map(*level));
    output
}

/// Maps each channel by a table made from its histogram.
fn map_channels(image: &RgbImage, table: impl Fn(&[u64; 256]) -> Table) -> RgbImage {
    let mut histograms = [[0; 256]; 3];
    for pixel in image.pixels() {
        for (channel, histogram) in histograms.iter_mut().enumerate() {
            histogram[usize::from(pixel[channel])] += 1;
        }
    }
    let tables = histograms.map(|histogram| table(&histogram));
    let mut output = image.clone();
    for pixel in output.pixels_mut() {
        for (channel, table) in tables.iter().enumerate() {
            pixel[channel] = table[usize::from(pixel[channel])];
        }
    }
    output
}

fn identity_table() -> Table {
    std::array::from_fn(|level| level as u8)
}
