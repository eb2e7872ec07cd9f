//! The baseline works where colour does tell the classes apart.

use biformer::classification::color_histogram::{accuracy, color_histogram};
use image::{Rgb, RgbImage};

fn plain(color: [u8; 3]) -> RgbImage {
    RgbImage::from_pixel(4, 4, Rgb(color))
}

#[test]
fn a_histogram_counts_colors_and_has_length_one() {
    let mut picture = plain([0, 0, 0]);
    for x in 0..4 {
        picture.put_pixel(x, 0, Rgb([255, 255, 255]));
    }
    let histogram = color_histogram(&picture);
    // 12 black and 4 white pixels: (12, 4) / √160.
    assert!((histogram[0] - 12.0 / 160_f32.sqrt()).abs() < 1e-6);
    assert!((histogram[511] - 4.0 / 160_f32.sqrt()).abs() < 1e-6);
    assert_eq!(histogram.iter().filter(|share| **share > 0.0).count(), 2);
}

#[test]
fn classes_of_one_color_each_are_told_apart() {
    let train = [(plain([200, 10, 10]), 0), (plain([10, 10, 200]), 2)];
    let val = [(plain([220, 20, 5]), 0), (plain([3, 4, 210]), 2), (plain([10, 200, 10]), 1)];
    // Class 1 has no training picture and is never predicted.
    assert_eq!(accuracy(&train, &val, 3), 2.0 / 3.0);
}

#[test]
fn nothing_to_judge_is_zero() {
    assert_eq!(accuracy(&[], &[], 3), 0.0);
    assert_eq!(accuracy(&[], &[(plain([0, 0, 0]), 0)], 3), 0.0);
}
