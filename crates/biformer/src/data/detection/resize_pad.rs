//! The size at which a detector sees a picture.

use image::imageops::flip_horizontal_in_place;

use super::super::segmentation::{Window, rescaled, resize_bilinear};
use super::super::{Normalize, RgbImage};

/// MMDetection's `Resize` with the ratio kept, `Normalize` and `Pad`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResizePad {
    /// The longer side is at most the greater of these, the shorter one at most the other.
    pub img_scale: [u32; 2],
    /// Sides are padded on the right and below to multiples of this; 1 changes nothing.
    pub size_divisor: u32,
    /// Statistics of the data set.
    pub normalize: Normalize,
}

/// A picture as a detector takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedPicture {
    /// `[3, padded height, padded width]`, 0 where the picture has ended.
    pub pixels: Vec<f32>,
    /// Height and width of `pixels`.
    pub padded: [usize; 2],
    /// Height and width of the picture in it.
    pub size: [usize; 2],
    /// Height and width of the file.
    pub original: [usize; 2],
    /// How much larger than in the file it is, across and down.
    pub scale: [f32; 2],
    /// Whether it is mirrored.
    pub flipped: bool,
}

impl ResizePad {
    /// As the official models see COCO: shorter side 800, as far as the longer one stays within 1333.
    pub const COCO: Self = Self::new([1333, 800]);

    /// Sides padded to multiples of 32, statistics of ImageNet.
    pub const fn new(img_scale: [u32; 2]) -> Self {
        Self { img_scale, size_divisor: 32, normalize: Normalize::IMAGENET }
    }

    /// The picture to what a detector takes, mirrored or not.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    pub fn apply(&self, image: &RgbImage, flipped: bool) -> PreparedPicture {
        let size = rescaled(image.dimensions(), self.img_scale.map(f64::from));
        let mut resized = resize_bilinear(image, size, Window::whole(size));
        if flipped {
            flip_horizontal_in_place(&mut resized);
        }
        let scale = |resized: u32, side: u32| (f64::from(resized) / f64::from(side)) as f32;
        let sides = |(width, height): (u32, u32)| [height as usize, width as usize];
        let divisor = self.size_divisor.max(1) as usize;
        let padded = sides(size).map(|side| side.next_multiple_of(divisor));
        let mut pixels = vec![0.0; 3 * padded[0] * padded[1]];
        copy_planes(&self.normalize.apply(&resized), sides(size), &mut pixels, padded);
        PreparedPicture {
            pixels,
            padded,
            size: sides(size),
            original: sides(image.dimensions()),
            scale: [scale(size.0, image.width()), scale(size.1, image.height())],
            flipped,
        }
    }
}

impl PreparedPicture {
    /// A box of the file where it lies here, cut off at the edges.
    ///
    /// # Shapes
    /// - xyxy, output: left, top, right and bottom in pixels
    pub fn place(&self, xyxy: [f32; 4]) -> [f32; 4] {
        let [height, width] = self.size.map(|side| side as f32);
        let [across, down] = self.scale;
        let [left, right] = [xyxy[0], xyxy[2]].map(|at| (at * across).clamp(0.0, width));
        let [top, bottom] = [xyxy[1], xyxy[3]].map(|at| (at * down).clamp(0.0, height));
        if self.flipped {
            [width - right, top, width - left, bottom]
        } else {
            [left, top, right, bottom]
        }
    }
}

/// Pictures of several sizes as one batch: each padded with 0 to the largest height and width.
///
/// # Shapes
/// - output: `[pictures.len(), 3, height, width]`, then height and width
pub fn stack_pictures(pictures: &[&PreparedPicture]) -> (Vec<f32>, [usize; 2]) {
    let largest = |axis: usize| pictures.iter().map(|picture| picture.padded[axis]).max();
    let padded = [0, 1].map(|axis| largest(axis).unwrap_or(0));
    let values = 3 * padded[0] * padded[1];
    let mut stacked = vec![0.0; pictures.len() * values];
    for (place, picture) in pictures.iter().enumerate() {
        let part = &mut stacked[place * values..(place + 1) * values];
        copy_planes(&picture.pixels, picture.padded, part, padded);
    }
    (stacked, padded)
}

/// `[3, height, width]` into the upper left corner of larger planes.
fn copy_planes(from: &[f32], [height, width]: [usize; 2], to: &mut [f32], padded: [usize; 2]) {
    for channel in 0..3 {
        for row in 0..height {
            let source = (channel * height + row) * width;
            let target = (channel * padded[0] + row) * padded[1];
            to[target..target + width].copy_from_slice(&from[source..source + width]);
        }
    }
}
