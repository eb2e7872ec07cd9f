//! Label maps drawn over pictures.

use biformer::data::RgbImage;
use biformer::data::segmentation::SegMap;
use biformer::visualize::{draw_segmentation, overlay};
use image::Rgb;

#[test]
fn colors_are_blended_where_a_class_is_known() {
    let image = RgbImage::from_pixel(3, 1, Rgb([100, 100, 100]));
    let map = SegMap::from_raw(3, 1, vec![0, 1, 255]).unwrap();
    let drawn = overlay(&image, &map, &[[200, 0, 100], [0, 0, 0]], 0.5);
    // 128 parts of 255.
    assert_eq!(drawn.into_raw(), [150, 49, 100, 49, 49, 49, 100, 100, 100]);
    let hidden = overlay(&image, &map, &[[200, 0, 100], [0, 0, 0]], 1.0);
    assert_eq!(hidden.get_pixel(0, 0).0, [200, 0, 100]);
}

#[test]
fn the_legend_names_what_is_there_largest_first() {
    let image = RgbImage::new(60, 100);
    let map = SegMap::from_fn(60, 100, |_, y| image::Luma([if y < 30 { 2 } else { 1 }]));
    let names = ["absent", "most", "some"].map(str::to_owned);
    let palette = [[250, 0, 0], [0, 250, 0], [0, 0, 250]];
    let sheet = draw_segmentation(&image, &map, &names, &palette, 0.5);
    assert_eq!(sheet.height(), 100);
    let colors: Vec<[u8; 3]> = (0..100).map(|y| sheet.get_pixel(60 + 10, y).0).collect();
    let first = |color| colors.iter().position(|found| *found == color);
    assert!(first([0, 250, 0]) < first([0, 0, 250]) && first([0, 0, 250]).is_some());
    assert_eq!(first([250, 0, 0]), None);
    let tiny = draw_segmentation(&RgbImage::new(1, 1), &SegMap::new(1, 1), &names, &palette, 0.5);
    assert!(tiny.width() > 1);
}
