//! Boxes, names and masks over pictures.

use biformer::data::RgbImage;
use biformer::data::detection::{Bitmap, Rle};
use biformer::visualize::{DrawnInstance, draw_instances, instance_palette};
use image::{Luma, Rgb};

const RED: [u8; 3] = [255, 0, 0];

fn thing(bbox: [f32; 4]) -> DrawnInstance<'static> {
    DrawnInstance { bbox, name: "cat", score: Some(0.5), mask: None, color: RED }
}

#[test]
fn a_box_has_its_outline_and_its_name() {
    let image = RgbImage::from_pixel(200, 100, Rgb([10; 3]));
    let drawn = draw_instances(&image, &[thing([20.2, 40.0, 119.5, 90.0])], 0.5);
    let is_red = |x, y| drawn.get_pixel(x, y).0 == RED;
    for x in 20..120 {
        assert!(is_red(x, 40) && is_red(x, 89), "{x}");
    }
    for y in 40..90 {
        assert!(is_red(20, y) && is_red(119, y), "{y}");
    }
    for (x, y) in [(19, 60), (120, 60), (21, 60), (118, 60), (60, 41), (60, 88), (60, 90)] {
        assert_eq!(*drawn.get_pixel(x, y), Rgb([10; 3]), "{x}, {y}");
    }
    // "cat 0.50" above, dark on red; nothing to its right.
    let patch = (20..60).flat_map(|x| (24..39).map(move |y| (x, y)));
    let inks = patch.filter(|&(x, y)| !is_red(x, y)).count();
    assert!((40..300).contains(&inks), "{inks}");
    assert_eq!(*drawn.get_pixel(120, 30), Rgb([10; 3]));
    // At the upper edge the name is in the box, at the right edge it moves to the left.
    let drawn = draw_instances(&image, &[thing([180.0, 0.0, 400.0, 95.0])], 0.5);
    assert_eq!(drawn.get_pixel(142, 3).0, RED);
    assert_eq!(drawn.get_pixel(199, 50).0, RED);
}

#[test]
fn masks_are_blended_below_boxes() {
    let image = RgbImage::from_pixel(60, 60, Rgb([100; 3]));
    let bitmap = Bitmap::from_fn(60, 60, |x, _| Luma([u8::from(x >= 30)]));
    let mask = Rle::encode(&bitmap);
    let with_mask =
        DrawnInstance { mask: Some(&mask), score: None, ..thing([25.0, 25.0, 55.0, 55.0]) };
    let drawn = draw_instances(&image, &[with_mask], 0.5);
    assert_eq!(drawn.get_pixel(10, 40).0, [100; 3]);
    assert_eq!(drawn.get_pixel(58, 58).0, [177, 49, 49]); // 100 and red, half each
    assert_eq!(drawn.get_pixel(25, 40).0, RED);
    assert_eq!(draw_instances(&image, &[], 0.5), image);
}

#[test]
fn odd_boxes_are_drawn_as_far_as_they_can_be() {
    for side in [1, 3, 40] {
        let image = RgbImage::new(side, side);
        for bbox in [
            [-9.0, -9.0, -1.0, -1.0],
            [99.0, 99.0, 120.0, 120.0],
            [2.0, 2.0, 1.0, 1.0],
            [f32::NAN; 4],
        ] {
            assert_eq!(draw_instances(&image, &[thing(bbox)], 1.0).dimensions(), (side, side));
        }
    }
}

#[test]
fn colors_of_classes_differ() {
    let palette = instance_palette(80);
    let distance = |a: &[u8; 3], b: &[u8; 3]| -> u32 {
        a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum()
    };
    for (place, color) in palette.iter().enumerate() {
        assert!(color.iter().any(|&level| level > 200), "{color:?}");
        // Of eight in a row, no two look alike.
        for other in &palette[place.saturating_sub(7)..place] {
            assert!(distance(color, other) > 60, "{place}: {color:?} {other:?}");
        }
    }
    assert_eq!(instance_palette(3), palette[..3]);
}
