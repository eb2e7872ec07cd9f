//! Small data sets on disk.

use std::fs;
use std::path::Path;

use biformer::data::RgbImage;
use png::{BitDepth, ColorType};

/// A PNG with these rows of bytes, as they are.
pub fn write_png(path: &Path, size: [u32; 2], color: ColorType, depth: BitDepth, rows: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, size[0], size[1]);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ColorType::Indexed {
        // All the same: whoever asks for colours gets no index.
        encoder.set_palette(vec![77; 3 << (depth as usize).min(8)]);
    }
    encoder.write_header().unwrap().write_image_data(rows).unwrap();
}

/// Labels of 8 bits.
pub fn write_labels(path: &Path, size: [u32; 2], labels: &[u8]) {
    write_png(path, size, ColorType::Grayscale, BitDepth::Eight, labels);
}

/// A grey picture.
pub fn write_image(path: &Path, [width, height]: [u32; 2]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(width, height, image::Rgb([90, 120, 150])).save(path).unwrap();
}

pub fn write_text(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Three classes in `images` and `labels`.
pub const DEFINITION: &str = r#"
name = "three"
classes = ["ground", "thing", "other"]

[splits.train]
images = "images"
labels = "labels"
"#;
