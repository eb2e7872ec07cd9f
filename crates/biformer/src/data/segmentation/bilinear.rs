//! Resizing as OpenCV does where MMSegmentation asks for it: bilinear without antialiasing for pictures,
//! the nearest pixel for label maps; only the window that is needed.
//!
//! The sums of the bilinear resize are exact and rounded once; OpenCV rounds its weights to 11 bits, which
//! can make a difference of one level.

use std::ops::Range;

use image::{GrayImage, RgbImage};

/// A piece of a resized picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::data) struct Window {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

impl Window {
    pub fn whole((width, height): (u32, u32)) -> Self {
        Self { left: 0, top: 0, width, height }
    }
}

/// `window` of `image` resized to `size`, by two neighbours along each axis.
///
/// # Shapes
/// - image: `[image_height, image_width, 3]`
/// - output: `[window.height, window.width, 3]`
pub(in crate::data) fn resize_bilinear(
    image: &RgbImage,
    size: (u32, u32),
    window: Window,
) -> RgbImage {
    let axis = |source: u32, size: u32, start: u32, count: u32| {
        taps(source as usize, size as usize, start as usize..(start + count) as usize)
    };
    let columns: Vec<_> = axis(image.width(), size.0, window.left, window.width).collect();
    let rows = axis(image.height(), size.1, window.top, window.height);
    let stride = 3 * image.width() as usize;
    // The source columns that are looked at.
    let (first, last) = match (columns.first(), columns.last()) {
        (Some(first), Some(last)) => (3 * first.near, 3 * last.far + 3),
        _ => (0, 0),
    };
    let mut blended = vec![0.0; last - first];
    let mut output = RgbImage::new(window.width, window.height);
    for (row, output) in rows.zip(output.chunks_exact_mut(3 * columns.len())) {
        let [near, far] =
            [row.near, row.far].map(|y| &image.as_raw()[y * stride + first..y * stride + last]);
        for ((value, &near), &far) in blended.iter_mut().zip(near).zip(far) {
            *value = lerp(f32::from(near), f32::from(far), row.weight);
        }
        for (column, output) in columns.iter().zip(output.chunks_exact_mut(3)) {
            let [near, far] = [column.near, column.far].map(|x| 3 * x - first);
            for channel in 0..3 {
                let value = lerp(blended[near + channel], blended[far + channel], column.weight);
                output[channel] = (value + 0.5) as u8;
            }
        }
    }
    output
}

/// `window` of `map` resized to `size`: the pixel whose corner is nearest, as in OpenCV.
///
/// # Shapes
/// - map: `[map_height, map_width]`
/// - output: `[window.height, window.width]`
pub(in crate::data) fn resize_nearest(
    map: &GrayImage,
    size: (u32, u32),
    window: Window,
) -> GrayImage {
    let nearest = |source: u32, size: u32, at: u32| {
        let scale = f64::from(source) / f64::from(size);
        ((f64::from(at) * scale) as u32).min(source - 1)
    };
    let columns: Vec<u32> =
        (0..window.width).map(|x| nearest(map.width(), size.0, window.left + x)).collect();
    GrayImage::from_fn(window.width, window.height, |x, y| {
        let row = nearest(map.height(), size.1, window.top + y);
        *map.get_pixel(columns[x as usize], row)
    })
}

/// The two source pixels of an output pixel along one axis.
pub(crate) struct Tap {
    pub near: usize,
    pub far: usize,
    /// Of the far one.
    pub weight: f32,
}

/// The taps of the pixels `shown`, of `size` in all; the middles of pixels lie at halves.
pub(crate) fn taps(source: usize, size: usize, shown: Range<usize>) -> impl Iterator<Item = Tap> {
    let scale = source as f64 / size as f64;
    shown.map(move |at| {
        let middle = ((at as f64 + 0.5) * scale - 0.5).clamp(0.0, (source - 1) as f64);
        let near = middle as usize;
        Tap { near, far: (near + 1).min(source - 1), weight: (middle - near as f64) as f32 }
    })
}

/// The value between `near` and `far`.
pub(crate) fn lerp(near: f32, far: f32, weight: f32) -> f32 {
    near + weight * (far - near)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    /// By hand: pixel 1 of 2 → 4 lies a quarter of the way from the first to the second.
    #[test]
    fn a_row_of_two_becomes_four() {
        let row = RgbImage::from_fn(2, 1, |x, _| Rgb([100 * x as u8, 0, 255]));
        let wide = resize_bilinear(&row, (4, 1), Window::whole((4, 1)));
        let red: Vec<u8> = wide.pixels().map(|pixel| pixel[0]).collect();
        assert_eq!(red, [0, 25, 75, 100]);
        assert!(wide.pixels().all(|pixel| pixel[1] == 0 && pixel[2] == 255));
        let half = resize_bilinear(&wide, (2, 1), Window::whole((2, 1)));
        assert_eq!([half.get_pixel(0, 0)[0], half.get_pixel(1, 0)[0]], [13, 88]); // 12.5, 87.5
    }

    #[test]
    fn nearest_takes_the_corner_as_opencv() {
        let map = GrayImage::from_raw(5, 1, vec![0, 1, 2, 3, 4]).unwrap();
        let small = resize_nearest(&map, (2, 1), Window::whole((2, 1)));
        assert_eq!(small.into_raw(), [0, 2]); // 0, 2.5
        let wide = resize_nearest(&map, (10, 1), Window::whole((10, 1)));
        assert_eq!(wide.into_raw(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn a_window_is_a_piece_of_the_whole() {
        let image =
            RgbImage::from_fn(23, 17, |x, y| Rgb([(x * 11) as u8, (y * 15) as u8, (x * y) as u8]));
        let map = GrayImage::from_fn(23, 17, |x, y| image::Luma([(x + 31 * y) as u8]));
        let window = Window { left: 5, top: 3, width: 12, height: 20 };
        for size in [(40, 31), (20, 24)] {
            let whole = resize_bilinear(&image, size, Window::whole(size));
            let piece = resize_bilinear(&image, size, window);
            let labels = resize_nearest(&map, size, Window::whole(size));
            let label_piece = resize_nearest(&map, size, window);
            for (x, y, pixel) in piece.enumerate_pixels() {
                assert_eq!(pixel, whole.get_pixel(x + 5, y + 3));
                assert_eq!(label_piece.get_pixel(x, y), labels.get_pixel(x + 5, y + 3));
            }
        }
    }
}
