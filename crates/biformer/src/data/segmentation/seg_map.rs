//! Label maps: files of class indices, read as the numbers they hold.

use std::io::{self, Cursor};
use std::path::Path;

use image::{GrayImage, ImageFormat};
use png::{BitDepth, ColorType, Limits, Transformations};

use super::super::MAX_PIXELS;
use super::super::image::{damaged, read_file};
use crate::files::write_atomically;
use crate::{Error, Result};

/// One byte a pixel: the class, or [`IGNORE_INDEX`].
pub type SegMap = GrayImage;

/// The class of pixels that do not count.
pub const IGNORE_INDEX: u8 = 255;

/// What the numbers in label files mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct LabelTable {
    /// The class of each number, or [`IGNORE_INDEX`]; `None` if it must not occur.
    pub meaning: [Option<u8>; 256],
    pub classes: usize,
}

impl LabelTable {
    /// Reads a label file.
    ///
    /// # Errors
    /// [`Error::Image`] with the first pixel whose number means nothing.
    pub fn read(&self, path: &Path) -> Result<SegMap> {
        let mut map = read_label_values(path)?;
        for (x, y, pixel) in map.enumerate_pixels_mut() {
            let [value] = pixel.0;
            let Some(class) = self.meaning[usize::from(value)] else {
                let reason = format!(
                    "the label at column {x}, row {y} is {value}, which is none of the {} classes; \
                     correct the file, or name the value in `ignore` of the data set's definition",
                    self.classes
                );
                return Err(Error::image(path, reason));
            };
            pixel.0 = [class];
        }
        Ok(map)
    }
}

/// The numbers in a PNG of class indices: greyscale levels or places in its palette, not scaled and not
/// turned into colours.
///
/// # Shapes
/// - output: `[height, width]`
///
/// # Errors
/// [`Error::Image`] if it is no PNG of 1 to 8 bits, greyscale or with a palette.
pub fn read_label_values(path: &Path) -> Result<GrayImage> {
    let bytes = read_file(path)?;
    if !bytes.starts_with(b"\x89PNG") {
        let reason =
            "is no PNG; label maps must be PNG files, since other formats change the numbers";
        return Err(Error::image(path, reason));
    }
    let damaged = |error: png::DecodingError| damaged(path, ImageFormat::Png, &error);
    // A row and its filter are held beside the result.
    let limits = Limits { bytes: MAX_PIXELS as usize };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::IDENTITY);
    let header = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = (header.width, header.height);
    let bits =
        index_bits(header.color_type, header.bit_depth).map_err(|e| Error::image(path, e))?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let reason =
            format!("{width}x{height} is above the limit of {MAX_PIXELS} pixels; cut it up");
        return Err(Error::image(path, reason));
    }
    let mut reader = decoder.read_info().map_err(damaged)?;
    let mut packed = vec![0; reader.output_buffer_size().unwrap_or_default()];
    let frame = reader.next_frame(&mut packed).map_err(damaged)?;
    let values = unpack(packed, frame.line_size, width as usize, bits);
    Ok(GrayImage::from_raw(width, height, values).expect("a byte for each pixel"))
}

/// Bits of an index, or what is wrong.
fn index_bits(color: ColorType, depth: BitDepth) -> Result<usize, String> {
    let found = match (color, depth) {
        (ColorType::Grayscale | ColorType::Indexed, BitDepth::Sixteen) => {
            return Err(
                "has labels of 16 bits; save it with 8 bits, classes have numbers below 256"
                    .to_owned(),
            );
        }
        (ColorType::Grayscale | ColorType::Indexed, depth) => return Ok(depth as usize),
        (ColorType::Rgb | ColorType::Rgba, _) => "colours",
        (ColorType::GrayscaleAlpha, _) => "grey levels with transparency",
    };
    Err(format!(
        "holds {found}, not class indices; save the indices as a greyscale PNG or one with a palette"
    ))
}

/// One byte for each index; the rows of a PNG begin with whole bytes.
fn unpack(packed: Vec<u8>, line_size: usize, width: usize, bits: usize) -> Vec<u8> {
    if bits == 8 {
        return packed;
    }
    let per_byte = 8 / bits;
    let mask = (1 << bits) - 1;
    let index = |row: &[u8], x: usize| row[x / per_byte] >> (8 - bits * (x % per_byte + 1)) & mask;
    packed.chunks_exact(line_size).flat_map(|row| (0..width).map(move |x| index(row, x))).collect()
}

/// The share of the pixels of each class, of all pixels.
pub fn class_areas(map: &SegMap, classes: usize) -> Vec<f64> {
    let mut counts = vec![0u64; classes];
    for &class in map.as_raw() {
        if let Some(count) = counts.get_mut(usize::from(class)) {
            *count += 1;
        }
    }
    counts.iter().map(|&count| count as f64 / map.len() as f64).collect()
}

/// Writes a label map as PNG with a palette, whole or not at all: viewers show colours, readers that ask
/// for indices get the classes. Pixels that do not count are 255 and white.
pub fn write_seg_map(path: &Path, map: &SegMap, palette: &[[u8; 3]]) -> Result<()> {
    let mut colors = [[0; 3]; 256];
    colors[..palette.len()].copy_from_slice(palette);
    colors[usize::from(IGNORE_INDEX)] = [255; 3];
    write_atomically(path, |file| {
        let mut encoder = png::Encoder::new(file, map.width(), map.height());
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_palette(colors.as_flattened());
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        writer.write_image_data(map.as_raw()).map_err(io::Error::other)?;
        writer.finish().map_err(io::Error::other)
    })
}
