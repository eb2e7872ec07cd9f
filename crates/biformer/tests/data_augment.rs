//! RandAugment, colour jitter and Random Erasing: options, ranges and frequencies.
//!
//! Frequencies are compared over some thousand draws from a fixed seed. Each bound is five standard
//! deviations of the count or mean, which a right implementation misses once in a million seeds.

use std::collections::HashMap;

use biformer::data::{
    AugmentOp, ErasingMode, Filter, Normalize, RandAugment, RandomErasing, RgbImage,
    TrainTransform, color_jitter,
};
use image::Rgb;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[test]
fn configurations_are_read_as_timm_writes_them() {
    let parse = |text: &str| text.parse::<RandAugment>().unwrap();
    assert_eq!(parse("rand"), RandAugment::default());
    let paper = RandAugment {
        magnitude: 9.0,
        magnitude_std: 0.5,
        increasing: true,
        ..RandAugment::default()
    };
    assert_eq!(parse("rand-m9-mstd0.5-inc1"), paper);
    let all = RandAugment {
        num_ops: 3,
        magnitude: 7.5,
        magnitude_std: 1.0,
        magnitude_max: 20.0,
        prob: 0.25,
        increasing: false,
        interpolation: None,
    };
    assert_eq!(parse("rand-n3-m7.5-mstd1-mmax20-p0.25-inc0"), all);
}

#[test]
fn unknown_parts_are_told_what_is_known() {
    let says = |text: &str, expected: &str| {
        let error = text.parse::<RandAugment>().unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(text), "{error}");
    };
    says("original", "must begin with `rand`");
    says("", "must begin with `rand`");
    says("rand-m9-w0", "`w0` is unknown; known are `n`, `m`, `mstd`, `mmax`, `p` and `inc`");
    says("rand-m9-", "`` is unknown");
    says("rand-9", "`9` is unknown");
    says("rand-mnine", "`mnine` is unknown");
    says("rand-m", "`m`: \"\" is no value for `m`");
    says("rand-m-1", "`m`: \"\" is no value for `m`");
    says("rand-n0", "`n0`");
    says("rand-n1.5", "`n1.5`");
    says("rand-p1.5", "`p1.5`");
    says("rand-inc2", "`inc2`");
    says("rand-mstdnan", "`mstdnan` is unknown");
    let error = "pixels".parse::<ErasingMode>().unwrap_err().to_string();
    assert!(error.contains("must be `const`, `rand` or `pixel`, got `pixels`"), "{error}");
}

#[test]
fn operations_directions_and_filters_are_drawn_alike() {
    let augment = RandAugment { num_ops: 15, prob: 1.0, ..paper() };
    let mut rng = StdRng::seed_from_u64(1);
    let mut counts: HashMap<AugmentOp, i32> = HashMap::new();
    let (mut bicubic, mut left, mut rotated) = (0, 0, 0);
    for _ in 0..1_000 {
        for drawn in augment.draw(&mut rng) {
            *counts.entry(drawn.op).or_default() += 1;
            bicubic += i32::from(drawn.filter == Filter::Bicubic);
            if drawn.op == AugmentOp::Rotate {
                rotated += 1;
                left += i32::from(drawn.argument > Some(0.0));
            }
        }
    }
    assert_eq!(counts.len(), 15);
    // 15,000 draws of probability 1/15: deviation 30.6.
    assert!(counts.values().all(|count| (count - 1_000).abs() < 153), "{counts:?}");
    // Of probability 1/2: deviations 61 and half the root of the rotations.
    assert!((bicubic - 7_500).abs() < 307, "{bicubic}");
    assert!(f64::from(2 * left - rotated).abs() < 5.0 * f64::from(rotated).sqrt(), "{left}");
}

#[test]
fn half_of_two_operations_are_applied() {
    let mut rng = StdRng::seed_from_u64(2);
    let mut counts = [0_i32; 3];
    for _ in 0..10_000 {
        counts[paper().draw(&mut rng).len()] += 1;
    }
    // 1/4, 1/2, 1/4 of 10,000: deviations 43, 50, 43.
    assert!(
        counts.iter().zip([2_500, 5_000, 2_500]).all(|(a, b)| (a - b).abs() < 217),
        "{counts:?}"
    );
    let never = RandAugment { prob: 0.0, ..paper() };
    assert_eq!(never.draw(&mut rng), []);
}

#[test]
fn magnitudes_are_normal_and_clipped() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut draw = |augment: RandAugment| -> Vec<f64> {
        (0..10_000).map(|_| augment.draw_magnitude(&mut rng)).collect()
    };
    let free = draw(RandAugment { magnitude_max: 100.0, ..paper() });
    // Deviation of the mean 0.5/√n, of the standard deviation 0.5/√2n.
    assert!((mean(&free) - 9.0).abs() < 0.025, "{}", mean(&free));
    assert!((deviation(&free) - 0.5).abs() < 0.018, "{}", deviation(&free));

    let clipped = draw(paper());
    assert!(clipped.iter().all(|magnitude| (0.0..=10.0).contains(magnitude)));
    let at_the_top = clipped.iter().filter(|magnitude| **magnitude == 10.0).count();
    // Two deviations above the mean: 2.275 % of 10,000, deviation 15.
    assert!(at_the_top.abs_diff(228) < 75, "{at_the_top}");

    let fixed = draw(RandAugment { magnitude_std: 0.0, ..paper() });
    assert!(fixed.iter().all(|magnitude| *magnitude == 9.0));
    let uniform = draw(RandAugment { magnitude_std: 101.0, ..paper() });
    // Uniform from 0 to 9: deviation 2.6, of the mean 0.026.
    assert!((mean(&uniform) - 4.5).abs() < 0.13, "{}", mean(&uniform));
}

#[test]
fn every_operation_keeps_the_size_at_any_magnitude() {
    let mut rng = StdRng::seed_from_u64(4);
    let image = noise(13, 9);
    let wild = RandAugment { num_ops: 8, prob: 1.0, magnitude_std: 101.0, ..paper() };
    for increasing in [false, true] {
        let wild = RandAugment { magnitude: 100.0, magnitude_max: 100.0, increasing, ..wild };
        for _ in 0..100 {
            let output = wild.apply(image.clone(), Rgb([124, 116, 104]), &mut rng);
            assert_eq!(output.dimensions(), (13, 9));
        }
    }
}

#[test]
fn places_from_outside_are_filled_with_the_mean_color() {
    assert_eq!(Normalize::IMAGENET.mean_color().0, [124, 116, 104]); // timm's `img_mean`
    let black = RgbImage::new(20, 20);
    let mut rng = StdRng::seed_from_u64(5);
    let shifted = biformer::data::DrawnOp {
        op: AugmentOp::TranslateXRel,
        argument: Some(0.5),
        filter: Filter::Bicubic,
    };
    let output = shifted.apply(&black, Normalize::IMAGENET.mean_color());
    assert_eq!(output.get_pixel(9, 0).0, [0; 3]);
    assert_eq!(output.get_pixel(10, 0).0, [124, 116, 104]);
    let never = RandAugment { prob: 0.0, ..paper() };
    assert_eq!(never.apply(black.clone(), Rgb([1; 3]), &mut rng), black);
}

#[test]
fn jitter_draws_each_factor_from_its_range() {
    let mut rng = StdRng::seed_from_u64(6);
    // On a flat grey picture only the brightness shows.
    let grey = RgbImage::from_pixel(2, 2, Rgb([100; 3]));
    let levels: Vec<f64> = (0..2_000)
        .map(|_| f64::from(color_jitter(grey.clone(), 0.4, &mut rng)[(0, 0)][0]))
        .collect();
    assert!(levels.iter().all(|level| (60.0..=140.0).contains(level)));
    // Uniform from 60 to 140, truncated: mean 99.5, deviation 23.1, of the mean 0.52.
    assert!((mean(&levels) - 99.5).abs() < 2.6, "{}", mean(&levels));

    // The spread of two greys grows with brightness and contrast, that of two channels also with
    // saturation: mean factors 1, so that nothing is stronger than the product of the extremes.
    let image = RgbImage::from_fn(2, 1, |x, _| Rgb([120 + 20 * x as u8, 120, 120]));
    for _ in 0..2_000 {
        let jittered = color_jitter(image.clone(), 0.4, &mut rng);
        let spread = jittered[(1, 0)][0].abs_diff(jittered[(1, 0)][1]);
        // 20 × 1.4³ and 20 × 0.6³, and a level for each of three truncations.
        assert!((1..=58).contains(&spread), "{spread}");
    }
    assert_eq!(color_jitter(image.clone(), 0.0, &mut rng), image);
    color_jitter(image, 5.0, &mut rng); // factors below zero are cut off
}

#[test]
fn a_quarter_is_erased_within_area_and_aspect() {
    const SIDE: usize = 100;
    let erasing = RandomErasing { prob: 0.25, mode: ErasingMode::Const, count: 1 };
    let mut rng = StdRng::seed_from_u64(7);
    let mut areas = Vec::new();
    for _ in 0..4_000 {
        let mut pixels = vec![1.0; 3 * SIDE * SIDE];
        erasing.apply(&mut pixels, SIDE, SIDE, &mut rng);
        let (red, others) = pixels.split_at(SIDE * SIDE);
        assert!(others.chunks(SIDE * SIDE).all(|channel| channel == red));
        let rows = red.chunks(SIDE).filter(|row| row.contains(&0.0)).count();
        let erased = red.iter().filter(|value| **value == 0.0).count();
        if erased > 0 {
            let columns = erased / rows;
            assert_eq!(rows * columns, erased, "a box");
            let aspect = rows as f64 / columns as f64;
            // Sides of 8 pixels and more, rounded by half a pixel: 6 % each.
            assert!((0.3 / 1.13..=1.13 / 0.3).contains(&aspect), "{aspect}");
            areas.push(erased as f64 / (SIDE * SIDE) as f64);
        }
    }
    // 1,000 expected, deviation 27.
    assert!(areas.len().abs_diff(1_000) < 137, "{}", areas.len());
    // Rounding moves an area by up to a pixel in eight of one side.
    assert!(areas.iter().all(|area| (0.017..=0.345).contains(area)));
    // Uniform from 0.02 to 1/3: mean 0.177, deviation 0.09, of the mean 0.003.
    assert!((mean(&areas) - 0.177).abs() < 0.015, "{}", mean(&areas));
}

#[test]
fn boxes_share_the_area_and_tiny_pictures_survive() {
    const SIDE: usize = 60;
    let erasing = RandomErasing { prob: 1.0, mode: ErasingMode::Const, count: 4 };
    let mut rng = StdRng::seed_from_u64(8);
    let mut most = 0.0_f64;
    for _ in 0..500 {
        let mut pixels = vec![1.0; 3 * SIDE * SIDE];
        erasing.apply(&mut pixels, SIDE, SIDE, &mut rng);
        let erased = pixels.iter().filter(|value| **value == 0.0).count();
        most = most.max(erased as f64 / pixels.len() as f64);
    }
    // Together at most a third, and two per cent for the rounding of small boxes.
    assert!((0.2..=0.353).contains(&most), "{most}");
    for (height, width) in [(1, 1), (1, 9), (2, 2)] {
        let mut pixels = vec![1.0; 3 * height * width];
        (0..50).for_each(|_| erasing.apply(&mut pixels, height, width, &mut rng));
    }
}

#[test]
fn erased_boxes_hold_one_color_or_noise() {
    const PIXELS: usize = 64 * 64;
    let mut rng = StdRng::seed_from_u64(9);
    let mut erase = |mode| {
        let mut pixels = vec![9.0; 3 * PIXELS]; // beyond what the normal distribution gives
        RandomErasing { prob: 1.0, mode, count: 1 }.apply(&mut pixels, 64, 64, &mut rng);
        let channels = pixels.chunks(PIXELS).map(|channel| {
            channel.iter().copied().filter(|value| *value != 9.0).map(f64::from).collect()
        });
        channels.collect::<Vec<Vec<f64>>>()
    };
    let mut colors = Vec::new();
    let mut noise = Vec::new();
    for _ in 0..400 {
        for channel in erase(ErasingMode::Rand) {
            assert!(channel.iter().all(|value| *value == channel[0]));
            colors.push(channel[0]);
        }
        noise.extend(erase(ErasingMode::Pixel).concat());
    }
    // 1,200 colours: deviations 0.029 and 0.020; some 860,000 values: 0.0011 and 0.0008.
    assert!(mean(&colors).abs() < 0.144 && (deviation(&colors) - 1.0).abs() < 0.102);
    assert!(noise.len() > 500_000);
    assert!(mean(&noise).abs() < 0.008 && (deviation(&noise) - 1.0).abs() < 0.005);
}

#[test]
fn the_transform_applies_its_parts() {
    let image = noise(40, 30);
    let plain = TrainTransform::new(24);
    let apply =
        |transform: TrainTransform, seed| transform.apply(&image, &mut StdRng::seed_from_u64(seed));
    let erasing = RandomErasing { prob: 1.0, mode: ErasingMode::Pixel, count: 1 };
    let parts = [
        TrainTransform { auto_augment: Some(RandAugment { prob: 1.0, ..paper() }), ..plain },
        TrainTransform { color_jitter: 0.4, ..plain },
        TrainTransform { random_erasing: Some(erasing), ..plain },
    ];
    for transform in parts {
        assert_eq!(apply(transform, 1), apply(transform, 1));
        assert_ne!(apply(transform, 1), apply(plain, 1));
        assert_eq!(apply(transform, 1).len(), 3 * 24 * 24);
    }
    let [augment, ..] = parts;
    let both = TrainTransform { color_jitter: 0.4, ..augment };
    assert_eq!(apply(both, 2), apply(augment, 2), "RandAugment takes the place of colour jitter");
}

fn paper() -> RandAugment {
    "rand-m9-mstd0.5-inc1".parse().unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn noise(width: u32, height: u32) -> RgbImage {
    let mut rng = StdRng::seed_from_u64(10);
    RgbImage::from_fn(width, height, |_, _| Rgb(rng.random()))
}
