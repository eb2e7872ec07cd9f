//! Resizing with Pillow's antialiased kernels on 8-bit pixels: the same bytes as Pillow 13.
//!
//! An output pixel is a weighted mean of the source pixels under a kernel. When the picture shrinks,
//! the kernel is stretched by the same factor, so that every source pixel counts. The two axes are
//! two passes; in between, the values are rounded and clipped to 8 bits, and so the order of the
//! passes shows at hard edges.

use std::ops::Range;

use image::RgbImage;

use super::resize_passes::{Kernel, WEIGHT_BITS, resize_columns, resize_rows, touched};

/// The kernel of a resize or of a geometric transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Triangle, two pixels wide.
    Bilinear,
    /// Cubic, four pixels wide. As in Pillow, a = -1/2 in [`resize`] and a = -1 in geometric transforms.
    Bicubic,
}

/// Resizes `image`, or the part of it in `crop_box`, to `width` x `height`, antialiased as Pillow does.
///
/// `crop_box` is `(left, top, right, bottom)` in source pixels, fractions allowed. As in Pillow, the
/// kernel of a border pixel reaches beyond the box as far as the picture goes.
///
/// # Shapes
/// - image: `[image_height, image_width, 3]`
/// - output: `[height, width, 3]`
///
/// # Panics
/// If a size is zero or the box is empty or leaves the picture.
pub fn resize(
    image: &RgbImage,
    width: u32,
    height: u32,
    filter: Filter,
    crop_box: Option<(f64, f64, f64, f64)>,
) -> RgbImage {
    let (image_width, image_height) = (f64::from(image.width()), f64::from(image.height()));
    let (left, top, right, bottom) = crop_box.unwrap_or((0.0, 0.0, image_width, image_height));
    assert!(width > 0 && height > 0, "resize: the output needs pixels, got: {width}x{height}");
    let inside = 0.0 <= left && left < right && right <= image_width;
    let inside = inside && 0.0 <= top && top < bottom && bottom <= image_height;
    let found = (left, top, right, bottom);
    assert!(
        inside,
        "resize: the box must lie inside {image_width}x{image_height} pixels, got: {found:?}"
    );
    let columns = Axis { source: left..right, ..Axis::whole(0..image.width(), width) };
    let rows = Axis { source: top..bottom, ..Axis::whole(0..image.height(), height) };
    resize_shown(image, &columns, &rows, filter)
}

/// One axis of a resize.
pub(super) struct Axis {
    /// The pixels of the picture that kernels may see.
    pub piece: Range<u32>,
    /// What becomes the output, counted from the start of the piece.
    pub source: Range<f64>,
    /// Pixels of the output.
    pub size: u32,
    /// Those of them that are made.
    pub shown: Range<u32>,
}

impl Axis {
    /// All of `piece`, as if the picture ended with it, becomes `size` pixels.
    pub(super) fn whole(piece: Range<u32>, size: u32) -> Self {
        Self { source: 0.0..f64::from(piece.end - piece.start), piece, size, shown: 0..size }
    }
}

/// Resizes and crops in one: the same pixels as cropping after [`resize`], without making the others.
///
/// # Shapes
/// - image: `[image_height, image_width, 3]`
/// - output: `[rows.shown, columns.shown, 3]`
pub(super) fn resize_shown(
    image: &RgbImage,
    columns: &Axis,
    rows: &Axis,
    filter: Filter,
) -> RgbImage {
    let mut column_kernels = columns.kernels(filter);
    let mut row_kernels = rows.kernels(filter);
    // The first pass makes only what the second will touch.
    let touched_columns = touched(&column_kernels);
    let touched_rows = touched(&row_kernels);
    let image_width = image.width() as usize;

    // Pillow 13 begins with the columns where that costs less: where the height shrinks by more
    // than twice what the width does. Older versions always began with the rows.
    let [shrunk_width, shrunk_height] =
        [columns, rows].map(|axis| axis.piece.len() as i64 - i64::from(axis.size));
    let pixels = if shrunk_height > 0 && shrunk_height > 2 * shrunk_width {
        // [rows.shown, touched columns, 3]
        let low = resize_columns(image, image_width, touched_columns.clone(), &row_kernels);
        column_kernels.iter_mut().for_each(|kernel| kernel.start -= touched_columns.start);
        resize_rows(&low, touched_columns.len(), 0..row_kernels.len(), &column_kernels)
    } else {
        // [touched rows, columns.shown, 3]
        let narrow = resize_rows(image, image_width, touched_rows.clone(), &column_kernels);
        row_kernels.iter_mut().for_each(|kernel| kernel.start -= touched_rows.start);
        resize_columns(&narrow, column_kernels.len(), 0..column_kernels.len(), &row_kernels)
    };
    RgbImage::from_raw(column_kernels.len() as u32, row_kernels.len() as u32, pixels)
        .expect("three bytes a pixel")
}

impl Axis {
    /// One kernel for each output pixel in `shown`.
    fn kernels(&self, filter: Filter) -> Vec<Kernel> {
        let scale = (self.source.end - self.source.start) / f64::from(self.size);
        let stretch = scale.max(1.0);
        let support = stretch * filter.support();
        let kernel = |output: u32| {
            let center = self.source.start + (f64::from(output) + 0.5) * scale;
            let start = (center - support).round().max(0.0) as usize;
            let end = ((center + support).round() as usize).min(self.piece.len());
            let weight = |source: usize| filter.weight((source as f64 + 0.5 - center) / stretch);
            let weights: Vec<f64> = (start..end).map(weight).collect();
            // At the border of the picture part of the kernel is missing: the rest is scaled up.
            let one = f64::from(1 << WEIGHT_BITS) / weights.iter().sum::<f64>();
            Kernel {
                start: self.piece.start as usize + start,
                weights: weights.iter().map(|weight| (weight * one).round() as i32).collect(),
            }
        };
        self.shown.clone().map(kernel).collect()
    }
}

impl Filter {
    /// Half the width of the kernel, in pixels.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// Height of the kernel at `distance` pixels from its middle.
    fn weight(self, distance: f64) -> f64 {
        let d = distance.abs();
        match self {
            Self::Bilinear => (1.0 - d).max(0.0),
            // Keys' cubic convolution with a = -1/2.
            Self::Bicubic if d < 1.0 => (1.5 * d - 2.5) * d * d + 1.0,
            Self::Bicubic if d < 2.0 => ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0,
            Self::Bicubic => 0.0,
        }
    }
}
