//! Pictures from files: every format comes out as upright 8-bit RGB, everything else as a clear error.
//!
//! Small pictures that the image crate cannot write lie in `tests/assets`, with the script that made them.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use biformer::data::{RgbImage, decode, decode_bytes, is_image_file};
use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbaImage};
use proptest::prelude::*;

#[test]
fn formats_without_loss_keep_every_pixel() {
    let picture = gradient(7, 5);
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        assert_eq!(read(&encode(picture.clone().into(), format)), picture, "{format:?}");
    }
    let jpeg = read(&encode(picture.clone().into(), ImageFormat::Jpeg));
    assert_eq!(jpeg.dimensions(), picture.dimensions());
}

#[test]
fn the_content_counts_and_not_the_extension() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_a_png.jpg");
    std::fs::write(&path, encode(gradient(4, 3).into(), ImageFormat::Png)).unwrap();
    assert_eq!(decode(&path).unwrap(), gradient(4, 3));
}

#[test]
fn greyscale_becomes_three_equal_channels() {
    let grey = GrayImage::from_fn(8, 8, |x, y| [(x * 30 + y) as u8].into());
    let picture = read(&encode(grey.clone().into(), ImageFormat::Png));
    assert!(picture.pixels().zip(grey.pixels()).all(|(rgb, grey)| rgb.0 == [grey[0]; 3]));
    let picture = read(&encode(grey.into(), ImageFormat::Jpeg));
    assert!(picture.pixels().all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2]));
}

#[test]
fn alpha_is_dropped_and_not_blended() {
    let clear = RgbaImage::from_pixel(3, 2, [200, 100, 50, 0].into());
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let picture = read(&encode(clear.clone().into(), format));
        assert!(picture.pixels().all(|pixel| pixel.0 == [200, 100, 50]), "{format:?}");
    }
}

#[test]
fn sixteen_bits_keep_their_high_byte() {
    let wide = image::ImageBuffer::<Rgb<u16>, _>::from_pixel(2, 2, Rgb([0x12FF, 0x8000, 0xFFFF]));
    let picture = read(&encode(DynamicImage::ImageRgb16(wide), ImageFormat::Png));
    assert!(picture.pixels().all(|pixel| pixel.0 == [0x12, 0x80, 0xFF]));
    let wide = image::ImageBuffer::<image::Luma<u16>, _>::from_pixel(2, 2, image::Luma([0x7FFF]));
    let picture = read(&encode(DynamicImage::ImageLuma16(wide), ImageFormat::Png));
    assert!(picture.pixels().all(|pixel| pixel.0 == [0x7F; 3]));
}

#[test]
fn a_palette_is_looked_up() {
    let picture = decode(&asset("palette_alpha.png")).unwrap();
    let row: Vec<_> = (0..4).map(|x| picture.get_pixel(x, 1).0).collect();
    assert_eq!(row, [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 0]]);
}

#[test]
fn four_channel_jpegs_have_the_colours_of_pil() {
    for name in ["cmyk_adobe", "cmyk_plain", "ycck"] {
        let ours = decode(&asset(&format!("{name}.jpg"))).unwrap();
        let expected = decode(&asset(&format!("{name}.expected.png"))).unwrap();
        assert_eq!(ours.dimensions(), expected.dimensions());
        // Two JPEG decoders may round the inverse DCT and the colour conversion apart, by a level
        // or two each; inverted or swapped channels would be off by a hundred.
        let worst = ours.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(4), "{name}: off by {worst:?}");
    }
}

#[test]
fn of_a_gif_the_first_frame_is_read() {
    let mut bytes = Vec::new();
    let frames =
        [[255, 0, 0, 255], [0, 0, 255, 255]].map(|color| RgbaImage::from_pixel(5, 4, color.into()));
    image::codecs::gif::GifEncoder::new(&mut bytes)
        .encode_frames(frames.map(image::Frame::new))
        .unwrap();
    let picture = read(&bytes);
    assert_eq!(picture.dimensions(), (5, 4));
    assert!(picture.pixels().all(|pixel| pixel.0 == [255, 0, 0]));
}

#[test]
fn all_eight_exif_orientations_stand_upright() {
    // Three columns, two rows of 16x16 blocks: big enough for a JPEG to keep the colours apart.
    let upright =
        RgbImage::from_fn(48, 32, |x, y| Rgb([(x / 16 * 100) as u8, (y / 16 * 200) as u8, 60]));
    let stored = |orientation| {
        let image = DynamicImage::from(upright.clone());
        match orientation {
            1 => image,
            2 => image.fliph(),
            3 => image.rotate180(),
            4 => image.flipv(),
            5 => image.rotate90().fliph(),
            6 => image.rotate270(),
            7 => image.rotate270().fliph(),
            _ => image.rotate90(),
        }
    };
    for orientation in 1..=8 {
        let jpeg =
            with_exif_orientation(&encode(stored(orientation), ImageFormat::Jpeg), orientation);
        let picture = read(&jpeg);
        assert_eq!(picture.dimensions(), (48, 32), "orientation {orientation}");
        for (x, y) in [(8, 8), (24, 8), (40, 8), (8, 24), (24, 24), (40, 24)] {
            let (found, expected) = (picture.get_pixel(x, y), upright.get_pixel(x, y));
            let close = found
                .0
                .iter()
                .zip(expected.0)
                .all(|(found, expected)| found.abs_diff(expected) < 12);
            assert!(
                close,
                "orientation {orientation} at ({x}, {y}): got {found:?}, expected {expected:?}"
            );
        }
    }
    let unknown = with_exif_orientation(&encode(stored(1), ImageFormat::Jpeg), 99);
    assert_eq!(
        read(&unknown).dimensions(),
        (48, 32),
        "an orientation that does not exist is ignored"
    );
}

#[test]
fn what_is_no_picture_is_named_with_the_cure() {
    assert_error(b"", "the file is empty");
    assert_error(
        b"<html><body>404 Not Found",
        "is not a JPEG, PNG, WebP or GIF picture (it begins with `<html><body>404",
    );
    assert_error(b"BM\0\0\0\0\0\0\0\0\0\0\0\0", "Bmp pictures are not supported; convert it");

    let folder = tempfile::tempdir().unwrap();
    let error = decode(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is a folder"), "{error}");
    let missing = folder.path().join("missing.jpg");
    let error = decode(&missing).unwrap_err().to_string();
    assert!(error.contains("missing.jpg") && error.contains("cannot read"), "{error}");
}

#[test]
fn truncated_files_are_errors_at_every_length() {
    let picture = DynamicImage::from(gradient(40, 30));
    let mut files = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP]
        .map(|format| (format!("{format:?}"), encode(picture.clone(), format)))
        .to_vec();
    for name in ["progressive.jpg", "cmyk_adobe.jpg", "lossy.webp"] {
        files.push((name.to_owned(), std::fs::read(asset(name)).unwrap()));
    }
    for (name, bytes) in files {
        read(&bytes);
        // The last tenth may hold only trailers whose loss costs no pixel; a JPEG must be whole.
        let longest =
            if name.to_lowercase().contains("jp") { bytes.len() - 1 } else { bytes.len() * 9 / 10 };
        for length in (0..=longest).rev().step_by(7) {
            let result = decode_bytes(&bytes[..length], Path::new("cut"));
            assert!(result.is_err(), "{name}: {length} of {} bytes decoded", bytes.len());
        }
    }
    let jpeg = encode(picture, ImageFormat::Jpeg);
    assert_error(
        &jpeg[..jpeg.len() / 2],
        "the JPEG is truncated: its end marker is missing; copy or download",
    );
}

#[test]
fn the_end_of_a_thumbnail_is_not_the_end_of_the_picture() {
    let picture = DynamicImage::from(gradient(40, 30));
    let thumbnail = encode(DynamicImage::from(gradient(8, 8)), ImageFormat::Jpeg);
    let jpeg = with_segment(&encode(picture, ImageFormat::Jpeg), 0xEF, &thumbnail);
    assert_eq!(read(&jpeg).dimensions(), (40, 30));
    assert_error(&jpeg[..jpeg.len() - 20], "truncated");
}

#[test]
fn bombs_are_refused_by_their_header() {
    let bomb = std::fs::read(asset("bomb.png")).unwrap();
    assert_error(&bomb, "100000x100000 is 10000000000 pixels, the limit is 178956970");

    // A JPEG whose size was overwritten: 12,000 x 12,000 is allowed, but not in 700 bytes.
    let mut jpeg = std::fs::read(asset("progressive.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|bytes| bytes == [0xFF, 0xC2]).unwrap();
    for offset in [5, 7] {
        jpeg[frame + offset..frame + offset + 2].copy_from_slice(&12_000_u16.to_be_bytes());
    }
    assert_error(&jpeg, "claims 12000x12000 pixels in 701 bytes");
}

#[test]
fn picture_files_are_known_by_their_extension() {
    for name in ["a.jpg", "a.JPEG", "b.Png", "c.webp", "d.gif", "dir.x/e.jpg"] {
        assert!(is_image_file(Path::new(name)), "{name}");
    }
    for name in ["a.txt", "jpg", ".jpg", "a.jpg.part", "a.tiff", ""] {
        assert!(!is_image_file(Path::new(name)), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    /// Damaged files give a picture or an error: no panic, and no more memory than the limits allow.
    #[test]
    fn damaged_files_never_panic(
        kind in 0_usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in prop_oneof![Just(1.0), 0.0..1.0],
    ) {
        let mut bytes = specimen(kind);
        for (position, value) in changes {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        let kept = (bytes.len() as f64 * keep) as usize;
        let result = decode_bytes(&bytes[..kept], Path::new("damaged"));
        if let Ok(picture) = result {
            prop_assert!(picture.width() > 0 && picture.height() > 0);
        }
    }
}

fn specimen(kind: usize) -> Vec<u8> {
    let picture = DynamicImage::from(gradient(12, 9));
    match kind {
        0 => with_exif_orientation(&encode(picture, ImageFormat::Jpeg), 6),
        1 => encode(picture, ImageFormat::Png),
        2 => encode(picture, ImageFormat::Gif),
        3 => encode(picture, ImageFormat::WebP),
        _ => {
            let name =
                ["progressive.jpg", "cmyk_adobe.jpg", "palette_alpha.png", "lossy.webp"][kind - 4];
            std::fs::read(asset(name)).unwrap()
        }
    }
}

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 6) as u8, (y * 8) as u8, (x * y) as u8]))
}

fn encode(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Puts a segment behind the start-of-image marker of a JPEG.
fn with_segment(jpeg: &[u8], code: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, code], &length, payload, &jpeg[2..]].concat()
}

/// A little-endian TIFF with one entry: tag 0x0112, one short.
fn with_exif_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II\x2A\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    with_segment(jpeg, 0xE1, &exif)
}

fn read(bytes: &[u8]) -> RgbImage {
    decode_bytes(bytes, Path::new("memory")).unwrap()
}

fn assert_error(bytes: &[u8], expected: &str) {
    let error = decode_bytes(bytes, Path::new("some/where.jpg")).unwrap_err().to_string();
    assert!(error.starts_with("picture `some/where.jpg`: "), "{error}");
    assert!(error.contains(expected), "got: {error}, expected: {expected}");
}

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets").join(name)
}
