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
    blend(image, factor, |_, _| Rgb([0; 3]))
}

/// Moves towards the greyscale picture (`factor` below 1) or away from it (above 1).
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn color(image: &RgbImage, factor: f32) -> RgbImage {
    blend(image, factor, |x, y| Rgb([luma(image.get_pixel(x, y)); 3]))
}

/// Moves towards the mean grey (`factor` below 1) or away from it (above 1).
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn contrast(image: &RgbImage, factor: f32) -> RgbImage {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(pixel))).sum();
    let pixels = u64::from(image.width()) * u64::from(image.height());
    let mean = (sum as f64 / pixels as f64 + 0.5) as u8;
    blend(image, factor, |_, _| Rgb([mean; 3]))
}

/// Moves towards a blurred picture (`factor` below 1) or away from it (above 1).
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn sharpness(image: &RgbImage, factor: f32) -> RgbImage {
    blend(image, factor, |x, y| smooth_pixel(image, x, y))
}

/// The mean of 3x3 pixels, the middle one counted five times; pixels of the border stay as they are.
fn smooth_pixel(image: &RgbImage, x: u32, y: u32) -> Rgb<u8> {
    let middle = image.get_pixel(x, y);
    if x == 0 || y == 0 || x + 1 == image.width() || y + 1 == image.height() {
        return *middle;
    }
    let mut sums = middle.0.map(|level| 4 * u32::from(level));
    for neighbour_y in y - 1..=y + 1 {
        for neighbour_x in x - 1..=x + 1 {
            let neighbour = image.get_pixel(neighbour_x, neighbour_y);
            sums.iter_mut().zip(neighbour.0).for_each(|(sum, level)| *sum += u32::from(level));
        }
    }
    Rgb(sums.map(|sum| ((sum + 6) / 13) as u8)) // thirteenths have no ties: +6 rounds to nearest
}

/// Pillow's integer luma (ITU-R 601).
fn luma(pixel: &Rgb<u8>) -> u8 {
    let [red, green, blue] = pixel.0.map(u32::from);
    ((19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16) as u8
}

/// `degenerate + factor · (image - degenerate)`, truncated as Pillow does, clipped to 0..=255.
fn blend(image: &RgbImage, factor: f32, degenerate: impl Fn(u32, u32) -> Rgb<u8>) -> RgbImage {
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (from, to) = (degenerate(x, y), image.get_pixel(x, y));
        Rgb(std::array::from_fn(|channel| {
            let (from, to) = (f32::from(from[channel]), f32::from(to[channel]));
            (from + factor * (to - from)) as u8
        }))
    })
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
