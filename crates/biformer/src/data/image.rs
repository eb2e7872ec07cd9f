//! File to picture: JPEG, PNG, WebP and GIF to 8-bit RGB, upright, whole, or an error that says why.
//!
//! The pixels are those of PIL's `Image.open(path).convert("RGB")` with three deliberate differences:
//! - The EXIF orientation is applied, so that a telephone's portrait stands upright.
//! - 16-bit greyscale keeps its high byte; PIL clips every value above 255 to white.
//! - The format is read from the content alone; a JPEG named `.png` is a JPEG.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::{Error, Result};

/// Largest picture that is decoded, in pixels: where PIL raises its `DecompressionBombError`.
///
/// It is checked against the header, before any pixel is allocated.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Largest file that is read, in bytes: [`MAX_PIXELS`] uncompressed RGB pixels.
pub const MAX_FILE_BYTES: u64 = 3 * MAX_PIXELS;

/// Largest buffer of a decoder, in bytes: [`MAX_PIXELS`] pixels of four 16-bit channels.
const MAX_ALLOC: u64 = 8 * MAX_PIXELS;

/// Most pixels that one byte of a JPEG can stand for.
///
/// The coarsest block there is covers 32x32 pixels with eight blocks (two components sampled 4x1
/// and 1x4), and every block costs one bit at least. A header that claims more is a lie.
const MAX_JPEG_PIXELS_PER_BYTE: u64 = 1024;

const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "gif"];

/// Reads and decodes the picture at `path`; of a GIF or an animated WebP, the first frame.
///
/// Alpha is dropped as in PIL, not blended: the colours of transparent pixels come out.
///
/// # Shapes
/// - output: `[height, width, 3]`, the size after the EXIF orientation
pub fn decode(path: &Path) -> Result<RgbImage> {
    let bytes = read_file(path)?;
    decode_bytes(&bytes, path)
}

/// Decodes a picture held in memory; `name` stands for it in error messages.
///
/// # Shapes
/// - output: `[height, width, 3]`, the size after the EXIF orientation
pub fn decode_bytes(bytes: &[u8], name: &Path) -> Result<RgbImage> {
    let (mut decoder, format) = decoder(bytes, name)?;
    let orientation = orientation(&mut decoder);
    let mut picture =
        DynamicImage::from_decoder(decoder).map_err(|error| damaged(name, format, &error))?;
    picture.apply_orientation(orientation);
    Ok(to_rgb(picture))
}

/// Width and height of the picture at `path` as [`decode`] gives it, from its header alone.
pub(super) fn picture_size(path: &Path) -> Result<(u32, u32)> {
    let bytes = read_file(path)?;
    let (mut decoder, _) = decoder(&bytes, path)?;
    let (width, height) = decoder.dimensions();
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    Ok(match orientation(&mut decoder) {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (height, width),
        _ => (width, height),
    })
}

/// A decoder of a picture whose header is sound.
fn decoder<'a>(bytes: &'a [u8], name: &Path) -> Result<(impl ImageDecoder + 'a, ImageFormat)> {
    let format = picture_format(bytes, name)?;
    if format == ImageFormat::Jpeg && !jpeg_reaches_its_end(bytes) {
        let reason =
            "the JPEG is truncated: its end marker is missing; copy or download the file again";
        return Err(Error::image(name, reason));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| damaged(name, format, &error))?;
    check_size(decoder.dimensions(), format, bytes.len(), name)?;
    Ok((decoder, format))
}

/// A broken EXIF block is no reason to refuse good pixels.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// What the `image` crate says of a file, with the cure.
pub(super) fn damaged(name: &Path, format: ImageFormat, error: &dyn Display) -> Error {
    let reason = format!(
        "cannot be decoded as {format:?} ({error}); the file is damaged: copy or download it again"
    );
    Error::image(name, reason)
}

/// Whether the extension of `path` is one of `jpg`, `jpeg`, `png`, `webp`, `gif`, in any case.
pub fn is_image_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let io_error = |source| Error::io("read", path, source);
    // Asked before opening: opening a named pipe would wait for ever.
    let metadata = fs::metadata(path).map_err(io_error)?;
    if metadata.is_dir() {
        return Err(Error::image(path, "is a folder; name a picture file"));
    }
    if !metadata.is_file() {
        return Err(Error::image(path, "is a pipe or a device; name a picture file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let reason = format!(
            "the file has {} bytes, the limit is {MAX_FILE_BYTES}; save a smaller picture",
            metadata.len()
        );
        return Err(Error::image(path, reason));
    }
    Ok(bytes)
}

fn picture_format(bytes: &[u8], name: &Path) -> Result<ImageFormat> {
    use ImageFormat::{Gif, Jpeg, Png, WebP};
    if bytes.is_empty() {
        return Err(Error::image(name, "the file is empty; copy or download it again"));
    }
    match image::guess_format(bytes) {
        Ok(format @ (Jpeg | Png | WebP | Gif)) => Ok(format),
        Ok(other) => {
            let reason = format!(
                "{other:?} pictures are not supported; convert it to JPEG, PNG, WebP or GIF"
            );
            Err(Error::image(name, reason))
        }
        Err(_) => {
            let start = bytes[..bytes.len().min(16)].escape_ascii();
            let reason = format!(
                "is not a JPEG, PNG, WebP or GIF picture (it begins with `{start}`); replace or remove it"
            );
            Err(Error::image(name, reason))
        }
    }
}

/// Follows the markers of a JPEG to its end-of-image marker.
///
/// The decoder paints what is missing in grey and reports success, so truncation is found here.
/// Segments are skipped by their length: the end marker of an EXIF thumbnail does not count.
fn jpeg_reaches_its_end(bytes: &[u8]) -> bool {
    const STUFFED_ZERO: u8 = 0x00;
    const RESTART_0: u8 = 0xD0;
    const START_OF_IMAGE: u8 = 0xD8;
    const END_OF_IMAGE: u8 = 0xD9;
    const FILL: u8 = 0xFF;

    let mut at = 0;
    while let Some(&[first, code]) = bytes.get(at..at + 2) {
        at += match (first, code) {
            (0xFF, END_OF_IMAGE) => return true,
            (0xFF, FILL) => 1,
            (0xFF, STUFFED_ZERO | 0x01 | RESTART_0..=START_OF_IMAGE) => 2,
            (0xFF, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            _ => 1, // entropy-coded data
        };
    }
    false
}

fn check_size(
    (width, height): (u32, u32),
    format: ImageFormat,
    file_bytes: usize,
    name: &Path,
) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::image(
            name,
            format!("the picture has no pixels ({width}x{height}); remove it"),
        ));
    }
    if pixels > MAX_PIXELS {
        let reason = format!(
            "{width}x{height} is {pixels} pixels, the limit is {MAX_PIXELS} (a bomb?); save it smaller"
        );
        return Err(Error::image(name, reason));
    }
    if format == ImageFormat::Jpeg && pixels > MAX_JPEG_PIXELS_PER_BYTE * file_bytes as u64 {
        let reason = format!(
            "the JPEG claims {width}x{height} pixels in {file_bytes} bytes; copy or download it again"
        );
        return Err(Error::image(name, reason));
    }
    Ok(())
}

fn to_rgb(picture: DynamicImage) -> RgbImage {
    use DynamicImage::{ImageLuma16, ImageLumaA16, ImageRgb16, ImageRgba16};
    if !matches!(picture, ImageLuma16(_) | ImageLumaA16(_) | ImageRgb16(_) | ImageRgba16(_)) {
        return picture.into_rgb8();
    }
    // PIL keeps the high byte of 16 bits; the image crate would round.
    let wide = picture.into_rgb16();
    let (width, height) = wide.dimensions();
    let bytes = wide.into_raw().into_iter().map(|value| (value >> 8) as u8).collect();
    RgbImage::from_raw(width, height, bytes).expect("one byte for each 16-bit value")
}
