//! Transforms at the edges: odd sizes, thin pictures, extreme strengths. Parity has its own file.

use biformer::data::pil_ops::*;
use biformer::data::{EvalTransform, Filter, Normalize, RgbImage, TrainTransform, resize};
use image::Rgb;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[test]
fn values_come_channel_by_channel_and_normalised() {
    let image = RgbImage::from_fn(2, 1, |x, _| Rgb([x as u8 * 255, 51, 102]));
    let normalize = Normalize { mean: [0.5, 0.2, 0.0], std: [0.5, 1.0, 0.4] };
    let values = normalize.apply(&image);
    for (value, expected) in values.iter().zip([-1.0, 1.0, 0.0, 0.0, 1.0, 1.0]) {
        assert!((value - expected).abs() < 1e-6, "{values:?}"); // one f32 rounding of 51/255 and 102/255
    }
}

#[test]
fn a_crop_larger_than_the_resized_picture_is_padded_with_black() {
    let white = RgbImage::from_pixel(50, 40, Rgb([255; 3]));
    // Shorter side 80, longer side 100.
    let transform = EvalTransform { crop_pct: 1.25, ..EvalTransform::new(100) };
    let square = transform.apply_u8(&white);
    assert_eq!(square.dimensions(), (100, 100));
    assert_eq!(square.get_pixel(50, 9).0, [0; 3]);
    assert_eq!(square.get_pixel(50, 10).0, [255; 3]);
    assert_eq!(square.get_pixel(50, 89).0, [255; 3]);
    assert_eq!(square.get_pixel(50, 90).0, [0; 3]);
}

/// A red dot lands where `locate` says, and what is said to be seen is.
#[test]
fn points_are_found_again_in_what_the_model_sees() {
    let transform = EvalTransform { crop_pct: 0.8, ..EvalTransform::new(64) };
    let (width, height) = (300, 200);
    for (x, y) in [(150, 100), (90, 40), (200, 170)] {
        let dot = |column: u32, row: u32| column.abs_diff(x) <= 6 && row.abs_diff(y) <= 6;
        let picture = RgbImage::from_fn(width, height, |column, row| {
            if dot(column, row) { Rgb([255, 0, 0]) } else { Rgb([0; 3]) }
        });
        let seen = transform.apply_u8(&picture);
        let sum = |weight: fn(u32, u32) -> u32| -> f64 {
            let terms =
                seen.enumerate_pixels().map(|(x, y, pixel)| weight(x, y) * u32::from(pixel[0]));
            f64::from(terms.sum::<u32>())
        };
        let found = [sum(|x, _| x), sum(|_, y| y)].map(|moment| moment / sum(|_, _| 1) + 0.5);
        let point = [f64::from(x) + 0.5, f64::from(y) + 0.5];
        let expected = transform.locate(point, (width, height)).map(|along| 64.0 * along);
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1.0, "{x}, {y}: {found}, located {expected}");
        }
    }
    // 64 of 80 pixels of the shorter side, 160 of 200: 70 to 229, 20 to 179.
    assert_eq!(transform.seen((width, height)), [[70, 229], [20, 179]]);
    assert_eq!(EvalTransform { crop_pct: 1.0, ..transform }.seen((64, 64)), [[0, 63], [0, 63]]);
}

#[test]
fn thin_pictures_need_no_more_memory_than_others() {
    // Resized whole, these would have 256 x 25,600,000 pixels.
    for (width, height) in [(1, 100_000), (100_000, 1)] {
        let image = RgbImage::from_pixel(width, height, Rgb([9, 8, 7]));
        assert!(
            EvalTransform::new(224).apply_u8(&image).pixels().all(|pixel| pixel.0 == [9, 8, 7])
        );
        let mut rng = StdRng::seed_from_u64(1);
        let piece = TrainTransform::new(32).apply_u8(&image, &mut rng);
        assert!(piece.pixels().all(|pixel| pixel.0 == [9, 8, 7]));
    }
}

#[test]
fn training_pieces_keep_to_scale_and_ratio() {
    let transform = TrainTransform::new(224);
    let mut rng = StdRng::seed_from_u64(7);
    let mut tall = 0;
    for _ in 0..2_000 {
        let [left, top, width, height] = transform.random_crop((400, 300), &mut rng);
        assert!(left + width <= 400 && top + height <= 300);
        let (area, ratio) =
            (f64::from(width * height) / 120_000.0, f64::from(width) / f64::from(height));
        // Rounding to whole pixels moves either by less than two per cent.
        assert!((0.078..=1.0).contains(&area), "area {area}");
        assert!((0.735..=1.36).contains(&ratio), "ratio {ratio}");
        tall += usize::from(ratio < 1.0);
    }
    // The logarithmic scale makes tall and wide pieces alike; wide ones fit a wide picture more often.
    assert!((700..1_100).contains(&tall), "{tall} of 2000 are tall");
}

#[test]
fn the_largest_centred_piece_is_taken_where_none_fits() {
    let mut rng = StdRng::seed_from_u64(7);
    let transform = TrainTransform { scale: (1.0, 1.0), ..TrainTransform::new(8) };
    assert_eq!(transform.random_crop((1_000, 30), &mut rng), [480, 0, 40, 30]);
    assert_eq!(transform.random_crop((30, 1_000), &mut rng), [0, 480, 30, 40]);
    assert_eq!(transform.random_crop((1, 1), &mut rng), [0, 0, 1, 1]);
}

#[test]
fn the_same_seed_gives_the_same_piece_and_flips_can_be_forced() {
    let image = noise(60, 45);
    let transform = TrainTransform::new(24);
    let draw = |transform: TrainTransform| transform.apply(&image, &mut StdRng::seed_from_u64(3));
    assert_eq!(draw(transform), draw(transform));
    assert_eq!(draw(transform).len(), 3 * 24 * 24);
    let piece = |hflip| {
        TrainTransform { hflip, ..transform }.apply_u8(&image, &mut StdRng::seed_from_u64(3))
    };
    assert_eq!(hflip(&piece(0.0)), piece(1.0));
}

#[test]
fn strengths_that_change_nothing_give_the_picture_back() {
    let image = noise(31, 17);
    let same = [
        brightness(&image, 1.0),
        color(&image, 1.0),
        contrast(&image, 1.0),
        sharpness(&image, 1.0),
        posterize(&image, 8),
        solarize(&image, 256),
        solarize_add(&image, 0),
        invert(&invert(&image)),
        hflip(&hflip(&image)),
        resize(&image, 31, 17, Filter::Bicubic, None),
    ];
    same.iter().for_each(|other| assert_eq!(other, &image));
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let fill = Rgb([1, 2, 3]);
        assert_eq!(rotate(&image, 0.0, filter, fill), image);
        assert_eq!(rotate(&image, 180.0, filter, fill), image::imageops::rotate180(&image));
        assert_eq!(shear_y(&image, 0.0, filter, fill), image);
        assert_eq!(translate_x(&image, 31.0, filter, fill), RgbImage::from_pixel(31, 17, fill));
    }
}

#[test]
fn flat_pictures_survive_the_histogram_operations() {
    let flat = RgbImage::from_pixel(20, 20, Rgb([5, 100, 255]));
    assert_eq!(autocontrast(&flat), flat);
    assert_eq!(equalize(&flat), flat);
}

#[test]
#[should_panic(expected = "the box must lie inside 8x8 pixels, got: (0.0, 0.0, 9.0, 4.0)")]
fn a_box_beyond_the_picture_panics_with_both() {
    resize(&noise(8, 8), 4, 4, Filter::Bilinear, Some((0.0, 0.0, 9.0, 4.0)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Any picture through any transform: the promised size, no panic.
    #[test]
    fn every_picture_passes(
        (width, height) in (1_u32..80, 1_u32..80),
        img_size in 1_usize..60,
        crop_pct in 0.2..1.5,
        seed: u64,
    ) {
        let image = noise(width, height);
        let eval = EvalTransform { crop_pct, ..EvalTransform::new(img_size) };
        prop_assert_eq!(eval.apply(&image).len(), 3 * img_size * img_size);
        let train = TrainTransform::new(img_size).apply(&image, &mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(train.len(), 3 * img_size * img_size);
        for operation in [autocontrast, equalize] {
            prop_assert_eq!(operation(&image).dimensions(), (width, height));
        }
        prop_assert_eq!(sharpness(&image, 1.9).dimensions(), (width, height));
        let turned = rotate(&image, crop_pct * 100.0, Filter::Bicubic, Rgb([0; 3]));
        prop_assert_eq!(turned.dimensions(), (width, height));
    }
}

fn noise(width: u32, height: u32) -> RgbImage {
    let mut rng = StdRng::seed_from_u64(u64::from(width * 1_000 + height));
    RgbImage::from_fn(width, height, |_, _| Rgb(rand::RngExt::random(&mut rng)))
}
