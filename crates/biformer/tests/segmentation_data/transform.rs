//! The training pipeline: labels stay with their pixels, and each part does what its name says.

use biformer::data::RgbImage;
use biformer::data::segmentation::{
    IGNORE_INDEX, PhotoMetricDistortion, SegMap, SegmentationTransform,
};
use image::{Luma, Rgb};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Blocks of 16 pixels of nine classes, whose colours no blend of two others gives.
fn coded(width: u32, height: u32) -> (RgbImage, SegMap) {
    let class = |x: u32, y: u32| (x / 16 * 5 + y / 16 * 7) % 9;
    let image = RgbImage::from_fn(width, height, |x, y| color(class(x, y) as u8));
    (image, SegMap::from_fn(width, height, |x, y| Luma([class(x, y) as u8])))
}

fn color(class: u8) -> Rgb<u8> {
    Rgb([25 * class, 3 * class * class, 255 - 20 * class])
}

fn plain(img_scale: [u32; 2], crop_size: usize) -> SegmentationTransform {
    SegmentationTransform { photometric: None, ..SegmentationTransform::new(img_scale, crop_size) }
}

#[test]
fn labels_stay_with_their_pixels() {
    let (image, map) = coded(150, 100);
    for seed in 0..60 {
        let transform = plain([150, 100], if seed % 2 == 0 { 64 } else { 256 });
        let (image, map) = transform.apply_u8(&image, &map, &mut StdRng::seed_from_u64(seed));
        let (mut inside, (width, height)) = (0, map.dimensions());
        for (x, y) in (2..height - 2).flat_map(|y| (2..width - 2).map(move |x| (x, y))) {
            let class = map.get_pixel(x, y)[0];
            // At the border between classes the picture blends, and labels take the nearest corner.
            let around = (y - 2..=y + 2).flat_map(|y| (x - 2..=x + 2).map(move |x| (x, y)));
            if around.into_iter().all(|(x, y)| map.get_pixel(x, y)[0] == class) {
                inside += 1;
                assert_eq!(*image.get_pixel(x, y), color(class), "seed {seed}, {x}, {y}");
            }
        }
        assert!(inside * 8 > width * height, "{inside} of {width}x{height}");
    }
}

#[test]
fn sizes_are_between_half_and_twice_the_scale() {
    let (image, map) = coded(96, 64);
    let transform = plain([480, 320], 1000);
    let mut widths: Vec<f64> = Vec::new();
    for seed in 0..400 {
        let (image, map) = transform.apply_u8(&image, &map, &mut StdRng::seed_from_u64(seed));
        let (width, height) = image.dimensions();
        assert_eq!(map.dimensions(), (width, height));
        assert!(width.abs_diff(height * 3 / 2) <= 2, "{width}x{height}");
        widths.push(width.into());
    }
    let (least, most) = widths.iter().fold((f64::MAX, 0.0f64), |(a, b), &w| (a.min(w), b.max(w)));
    assert!((238.0..260.0).contains(&least) && (940.0..=960.0).contains(&most), "{least}, {most}");
    // Uniform from 240 to 960: the mean of 400 has a deviation of 10.
    let mean = widths.iter().sum::<f64>() / 400.0;
    assert!((560.0..640.0).contains(&mean), "{mean}");
}

#[test]
fn half_are_mirrored() {
    let image = RgbImage::from_fn(40, 40, |x, _| Rgb([(6 * x) as u8; 3]));
    let map = SegMap::from_fn(40, 40, |x, _| Luma([u8::from(x >= 20)]));
    let transform = SegmentationTransform { ratio_range: (1.0, 1.0), ..plain([40, 40], 40) };
    let mut mirrored = 0;
    for seed in 0..400 {
        let (image, map) = transform.apply_u8(&image, &map, &mut StdRng::seed_from_u64(seed));
        let flipped = image.get_pixel(0, 0)[0] > image.get_pixel(39, 0)[0];
        assert_eq!(map.get_pixel(0, 7)[0], u8::from(flipped));
        mirrored += u32::from(flipped);
    }
    // 200 with a deviation of 10.
    assert!((160..=240).contains(&mirrored), "{mirrored}");
}

#[test]
fn pieces_of_one_class_are_drawn_anew() {
    // The last eighth is another class: three of four pieces of a quarter see nothing of it.
    let image = RgbImage::new(256, 64);
    let map = SegMap::from_fn(256, 64, |x, _| Luma([u8::from(x >= 224)]));
    let varied = |cat_max_ratio: f64| {
        let transform = SegmentationTransform {
            ratio_range: (1.0, 1.0),
            cat_max_ratio,
            ..plain([256, 64], 64)
        };
        let is_varied = |seed| {
            let (_, map) = transform.apply_u8(&image, &map, &mut StdRng::seed_from_u64(seed));
            let ones = map.as_raw().iter().filter(|&&class| class == 1).count() as f64;
            let share = ones / map.len() as f64;
            share.max(1.0 - share) < 0.75
        };
        (0..300).filter(|&seed| is_varied(seed)).count()
    };
    // One place of 193 pixels in twelve or so: 8 % at once, 61 % in eleven draws.
    let (at_once, drawn_anew) = (varied(1.0), varied(0.75));
    assert!((10..=45).contains(&at_once), "{at_once}");
    assert!((150..=220).contains(&drawn_anew), "{drawn_anew}");
}

#[test]
fn what_lies_beyond_the_picture_is_nothing() {
    let image = RgbImage::from_pixel(20, 10, Rgb([255, 0, 128]));
    let map = SegMap::from_pixel(20, 10, Luma([3]));
    let transform = SegmentationTransform { ratio_range: (1.0, 1.0), ..plain([20, 10], 32) };
    let sample = transform.apply(&image, &map, &mut StdRng::seed_from_u64(1));
    assert_eq!((sample.pixels.len(), sample.labels.len()), (3 * 32 * 32, 32 * 32));
    let expected = [(1.0 - 0.485) / 0.229, -0.456 / 0.224, (128.0 / 255.0 - 0.406) / 0.225];
    for (place, &label) in sample.labels.iter().enumerate() {
        let is_inside = place % 32 < 20 && place / 32 < 10;
        assert_eq!(label, if is_inside { 3 } else { IGNORE_INDEX });
        for (plane, expected) in sample.pixels.chunks(32 * 32).zip(expected) {
            let expected = if is_inside { expected } else { 0.0 };
            assert!((plane[place] - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn colors_change_in_a_random_part_of_the_pictures() {
    let color = Rgb([180, 90, 60]);
    let image = RgbImage::from_pixel(2, 2, color);
    let (mut unchanged, mut brighter, mut reddest) = (0, 0, 0);
    for seed in 0..2000 {
        let mut changed = image.clone();
        PhotoMetricDistortion::default().apply(&mut changed, &mut StdRng::seed_from_u64(seed));
        let [red, green, blue] = changed.get_pixel(0, 0).0;
        assert!(changed.pixels().all(|pixel| pixel.0 == [red, green, blue]));
        unchanged += u32::from([red, green, blue] == color.0);
        brighter += u32::from(red > 180);
        reddest += u32::from(red >= green.max(blue));
    }
    // None of the four changes: 1 in 16, 125 with a deviation of 11; some factors round to none.
    assert!((90..=190).contains(&unchanged), "{unchanged}");
    // Up and down are as likely: with none in 6 to 25 % of the pictures, 38 to 47 % are brighter.
    assert!((700..=960).contains(&brighter), "{brighter}");
    // The hue of 8 steps moves by up to 18: it stays red from −30 to 30.
    assert!(reddest > 1980, "{reddest}");
}

#[test]
fn only_brightness_adds_what_it_says() {
    let image = RgbImage::from_pixel(1, 1, Rgb([100; 3]));
    let only = PhotoMetricDistortion {
        contrast_range: (1.0, 1.0),
        saturation_range: (1.0, 1.0),
        hue_delta: 0,
        ..PhotoMetricDistortion::default()
    };
    let level = |seed| {
        let mut changed = image.clone();
        only.apply(&mut changed, &mut StdRng::seed_from_u64(seed));
        changed.get_pixel(0, 0)[0]
    };
    let levels: Vec<u8> = (0..1000).map(level).collect();
    assert!(levels.iter().all(|level| (68..=132).contains(level)));
    assert!(levels.iter().any(|&level| level < 72) && levels.iter().any(|&level| level > 128));
    let same = levels.iter().filter(|&&level| level == 100).count();
    assert!((440..=580).contains(&same), "{same}"); // half, and those that round to it
}

#[test]
fn odd_pictures_give_samples_too() {
    let transform = SegmentationTransform::new([2048, 512], 512);
    let nothing = SegMap::from_pixel(1, 1, Luma([IGNORE_INDEX]));
    let sample = transform.apply(&RgbImage::new(1, 1), &nothing, &mut StdRng::seed_from_u64(0));
    assert!(sample.labels.iter().all(|&label| label == IGNORE_INDEX));
    assert!(sample.pixels.iter().all(|value| value.is_finite()));
    for (width, height) in [(10_000, 300), (1, 10_000), (10_000, 1)] {
        let (image, map) = coded(width, height);
        let sample = transform.apply(&image, &map, &mut StdRng::seed_from_u64(3));
        assert!(sample.labels.iter().any(|&label| label != IGNORE_INDEX), "{width}x{height}");
    }
}
