//! Random changes of brightness, contrast, saturation and hue, MMSegmentation's `PhotoMetricDistortion`.

use std::ops::Range;

use rand::{Rng, RngExt};

use super::super::RgbImage;

/// Each change is made with probability 1/2; contrast comes before saturation and hue or, as often, after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhotoMetricDistortion {
    /// Most that is added to the levels.
    pub brightness_delta: f32,
    /// Least and greatest factor of the levels.
    pub contrast_range: (f32, f32),
    /// Least and greatest factor of the saturation.
    pub saturation_range: (f32, f32),
    /// Most that is added to the hue, in steps of two degrees.
    pub hue_delta: i32,
}

impl Default for PhotoMetricDistortion {
    fn default() -> Self {
        Self {
            brightness_delta: 32.0,
            contrast_range: (0.5, 1.5),
            saturation_range: (0.5, 1.5),
            hue_delta: 18,
        }
    }
}

impl PhotoMetricDistortion {
    /// # Shapes
    /// - image: `[height, width, 3]`
    pub fn apply(&self, image: &mut RgbImage, rng: &mut impl Rng) {
        let (least, most) = self.contrast_range;
        if rng.random_bool(0.5) {
            let delta = self.brightness_delta * rng.random_range(-1.0..=1.0f32);
            change_levels(image, 1.0, delta);
        }
        let contrast_first = rng.random_bool(0.5);
        let contrast = rng.random_bool(0.5).then(|| rng.random_range(least..=most));
        if let Some(factor) = contrast.filter(|_| contrast_first) {
            change_levels(image, factor, 0.0);
        }
        if rng.random_bool(0.5) {
            let factor = rng.random_range(self.saturation_range.0..=self.saturation_range.1);
            change_hsv(image, |[hue, saturation, value]| [hue, level(factor * saturation), value]);
        }
        if rng.random_bool(0.5) && self.hue_delta > 0 {
            // As NumPy's `randint`: the upper end is not drawn.
            let range: Range<i32> = -self.hue_delta..self.hue_delta;
            let delta = rng.random_range(range) as f32;
            change_hsv(image, |[hue, saturation, value]| {
                [(hue + delta).rem_euclid(HUES), saturation, value]
            });
        }
        if let Some(factor) = contrast.filter(|_| !contrast_first) {
            change_levels(image, factor, 0.0);
        }
    }
}

/// Steps of the hue in 8 bits, as in OpenCV: two degrees each.
const HUES: f32 = 180.0;

/// `factor` times each level and `delta` more.
fn change_levels(image: &mut RgbImage, factor: f32, delta: f32) {
    let table: [u8; 256] = std::array::from_fn(|from| level(from as f32 * factor + delta) as u8);
    image.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// Within 0 and 255, cut to a whole number as NumPy's `astype` does.
fn level(value: f32) -> f32 {
    value.clamp(0.0, 255.0).floor()
}

fn change_hsv(image: &mut RgbImage, change: impl Fn([f32; 3]) -> [f32; 3]) {
    for pixel in image.pixels_mut() {
        pixel.0 = to_rgb(change(to_hsv(pixel.0)));
    }
}

/// Hue in 0..180, saturation and value in 0..=255, whole numbers, as OpenCV has them in 8 bits.
fn to_hsv(rgb: [u8; 3]) -> [f32; 3] {
    let [red, green, blue] = rgb.map(f32::from);
    let value = red.max(green).max(blue);
    let range = value - red.min(green).min(blue);
    if range == 0.0 {
        return [0.0, 0.0, value];
    }
    let sector = if value == red {
        (green - blue) / range
    } else if value == green {
        (blue - red) / range + 2.0
    } else {
        (red - green) / range + 4.0
    };
    let hue = (HUES / 6.0 * sector).round().rem_euclid(HUES);
    [hue, (255.0 * range / value).round(), value]
}

fn to_rgb([hue, saturation, value]: [f32; 3]) -> [u8; 3] {
    let hue = hue * 6.0 / HUES;
    // Red is full for hues from −1 to 1 and falls to none at 2; green and blue follow at 2 and 4.
    let channel = |peak: f32| {
        let distance = ((hue - peak).rem_euclid(6.0) - 3.0).abs();
        let purity = (distance - 1.0).clamp(0.0, 1.0);
        (value * (1.0 - saturation / 255.0 * (1.0 - purity))).round() as u8
    };
    [channel(0.0), channel(2.0), channel(4.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Corners of the colour cube and some between, with what OpenCV's formula gives by hand.
    #[test]
    fn hsv_by_hand() {
        for (rgb, hsv) in [
            ([255, 0, 0], [0.0, 255.0, 255.0]),
            ([0, 255, 0], [60.0, 255.0, 255.0]),
            ([0, 0, 255], [120.0, 255.0, 255.0]),
            ([255, 0, 255], [150.0, 255.0, 255.0]),
            ([90, 90, 90], [0.0, 0.0, 90.0]),
            ([200, 100, 50], [10.0, 191.0, 200.0]), // 30 · 50/150; 255 · 150/200 = 191.25
        ] {
            assert_eq!(to_hsv(rgb), hsv);
            for (back, from) in to_rgb(hsv).into_iter().zip(rgb) {
                assert!(back.abs_diff(from) <= 1, "{rgb:?} came back as {:?}", to_rgb(hsv));
            }
        }
    }

    #[test]
    fn levels_are_clipped_and_cut() {
        let mut image = RgbImage::from_raw(1, 1, vec![10, 101, 250]).unwrap();
        change_levels(&mut image, 1.5, 0.0);
        assert_eq!(image.get_pixel(0, 0).0, [15, 151, 255]); // 151.5
        change_levels(&mut image, 1.0, -20.5);
        assert_eq!(image.get_pixel(0, 0).0, [0, 130, 234]); // 130.5, 234.5
    }
}
