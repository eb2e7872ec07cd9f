//! Inference against its definition, computed with all scores in memory at once.

use biformer::data::segmentation::{SegMap, TestResize};
use biformer::data::{Normalize, RgbImage};
use biformer::segmentation::{Inference, Slide, segment};
use burn::tensor::{Device, Tensor, TensorData};
use image::Rgb;
use image::imageops::flip_horizontal;

/// Scores of `classes` classes at stride 4: waves of different lengths over the colours of a pixel of each
/// sixteen and over the place in the picture.
fn waves(x: Tensor<4>, classes: usize) -> Tensor<4> {
    let device = x.device();
    let [_, _, height, width] = x.dims();
    let x: Vec<f32> = x.into_data().try_into_vec().unwrap();
    let size = [height.div_ceil(4), width.div_ceil(4)];
    let mut scores = Vec::new();
    for class in 0..classes {
        for (row, column) in (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| (y, x))) {
            let at = |channel: usize| x[(channel * height + 4 * row) * width + 4 * column];
            let phase = (class as f32 + 1.3) * (at(0) + 0.6 * at(1) - 0.3 * at(2));
            let place = class as f32 * (row as f32 / 5.0 + column as f32 / 7.0);
            scores.push(3.0 * (phase + place).sin());
        }
    }
    Tensor::from_data(TensorData::new(scores, [1, classes, size[0], size[1]]), &device)
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let [x, y] = [x as f32, y as f32];
        let wave = |phase: f32| (127.0 + 127.0 * (x / 9.0 + phase + (y / 13.0).cos()).sin()) as u8;
        Rgb([wave(0.0), wave(1.0), wave(2.5)])
    })
}

fn options(ratios: &[f64], flip: bool, slide: Option<Slide>) -> Inference {
    let resize = TestResize { img_scale: [90, 70], size_divisor: 8 };
    Inference { resize, ratios: ratios.to_vec(), flip, slide }
}

fn run(image: &RgbImage, options: &Inference, classes: usize) -> Result<SegMap, String> {
    let model = move |x| waves(x, classes);
    segment(&model, image, options, &Device::default()).map_err(|error| error.to_string())
}

/// Probabilities `[classes, height, width]` of one look, in f64.
fn look(
    image: &RgbImage,
    ratio: f64,
    mirrored: bool,
    options: &Inference,
    classes: usize,
) -> Vec<f64> {
    let mut seen = options.resize.apply(image, ratio);
    if mirrored {
        seen = flip_horizontal(&seen);
    }
    let size = [seen.height() as usize, seen.width() as usize];
    let values = TensorData::new(Normalize::IMAGENET.apply(&seen), [1, 3, size[0], size[1]]);
    let scores = waves(Tensor::from_data(values, &Device::default()), classes);
    let [_, _, height, width] = scores.dims();
    let scores: Vec<f32> = scores.into_data().try_into_vec().unwrap();
    let original = [image.height() as usize, image.width() as usize];
    let planes: Vec<Vec<f64>> = scores
        .chunks(height * width)
        .map(|plane| {
            let plane: Vec<f64> = plane.iter().map(|&score| score.into()).collect();
            bilinear(&bilinear(&plane, [height, width], size), size, original)
        })
        .collect();
    let pixels = original[0] * original[1];
    let mut probabilities = vec![0.0; classes * pixels];
    for place in 0..pixels {
        let (row, column) = (place / original[1], place % original[1]);
        let from = row * original[1] + if mirrored { original[1] - 1 - column } else { column };
        let total: f64 = planes.iter().map(|plane| plane[from].exp()).sum();
        for (class, plane) in planes.iter().enumerate() {
            probabilities[class * pixels + place] = plane[from].exp() / total;
        }
    }
    probabilities
}

/// The textbook's: four neighbours, middles of pixels at halves.
fn bilinear(plane: &[f64], [height, width]: [usize; 2], size: [usize; 2]) -> Vec<f64> {
    let place = |at: usize, from: usize, to: usize| {
        let middle =
            ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0);
        (middle.floor() as usize, (middle.ceil() as usize).min(from - 1), middle.fract())
    };
    let mut output = Vec::new();
    for y in 0..size[0] {
        let (top, bottom, down) = place(y, height, size[0]);
        for x in 0..size[1] {
            let (left, right, along) = place(x, width, size[1]);
            let at = |y: usize, x: usize| plane[y * width + x];
            output.push(
                (1.0 - down) * ((1.0 - along) * at(top, left) + along * at(top, right))
                    + down * ((1.0 - along) * at(bottom, left) + along * at(bottom, right)),
            );
        }
    }
    output
}

#[test]
fn sizes_and_mirror_images_are_averaged_as_probabilities() {
    let classes = 7;
    for (width, height) in [(61, 83), (150, 40), (200, 171), (1, 1), (3, 90)] {
        let image = picture(width, height);
        for (ratios, flip) in [(vec![1.0], false), (vec![1.0], true), (vec![0.5, 1.0, 1.75], true)]
        {
            let options = options(&ratios, flip, None);
            let found = run(&image, &options, classes).unwrap();
            assert_eq!(found.dimensions(), (width, height));
            let looks = ratios.iter().flat_map(|&ratio| {
                let mirrored = [false, true].into_iter().take(1 + usize::from(flip));
                mirrored.map(move |mirrored| (ratio, mirrored))
            });
            let looks: Vec<_> = looks
                .map(|(ratio, mirrored)| look(&image, ratio, mirrored, &options, classes))
                .collect();
            let mean = |class: usize, place: usize| {
                let at = class * (width * height) as usize + place;
                looks.iter().map(|look| look[at]).sum::<f64>() / looks.len() as f64
            };
            let (mut differing, mut classes_found) = (0, [false; 256]);
            for (place, &class) in found.as_raw().iter().enumerate() {
                classes_found[usize::from(class)] = true;
                let best = (0..classes).map(|class| mean(class, place)).fold(0.0, f64::max);
                // A class that is behind by no more than float32 rounds may win.
                differing += usize::from(best - mean(class.into(), place) > 1e-4);
            }
            assert_eq!(differing, 0, "{width}x{height} {ratios:?} {flip}");
            assert!(width < 50 || classes_found.iter().filter(|found| **found).count() > 3);
        }
    }
}

#[test]
fn a_crop_as_large_as_the_picture_is_the_whole() {
    let image = picture(133, 77);
    let slide = Some(Slide { crop_size: 200, stride: 100 });
    let whole = run(&image, &options(&[1.0, 1.5], true, None), 5).unwrap();
    assert_eq!(run(&image, &options(&[1.0, 1.5], true, slide), 5).unwrap(), whole);
    let overlapping = Some(Slide { crop_size: 32, stride: 20 });
    assert_ne!(run(&image, &options(&[1.0, 1.5], true, overlapping), 5).unwrap(), whole);
}

#[test]
fn large_pictures_are_done_in_bands() {
    let image = picture(10_000, 600);
    for slide in [None, Some(Slide { crop_size: 256, stride: 171 })] {
        let resize = TestResize { img_scale: [10_000, 600], size_divisor: 32 };
        let options = Inference { resize, slide, ..options(&[0.5], false, None) };
        let map = run(&image, &options, 20).unwrap();
        assert_eq!(map.dimensions(), (10_000, 600));
        assert!(map.as_raw().iter().any(|&class| class > 10));
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let image = picture(40, 30);
    let says = |result: Result<SegMap, String>, part: &str| {
        let error = result.unwrap_err();
        assert!(error.contains(part), "{error}");
    };
    says(run(&image, &options(&[], false, None), 5), "`ratios`");
    says(run(&image, &options(&[f64::NAN], false, None), 5), "`ratios`");
    let slide = |crop_size, stride| Some(Slide { crop_size, stride });
    says(
        run(&image, &options(&[1.0], false, slide(32, 33)), 5),
        "expected 1 to the crop size 32, found 33",
    );
    says(run(&image, &options(&[1.0], false, slide(32, 0)), 5), "`stride`");
    says(run(&image, &options(&[1.0], false, slide(0, 0)), 5), "`crop_size`");
    says(run(&image, &options(&[1.0], false, None), 256), "256 classes");
    let huge = Inference {
        resize: TestResize { img_scale: [9_000, 7_000], size_divisor: 1 },
        ..options(&[1.0], false, None)
    };
    says(run(&image, &huge, 5), "lower the scale, or slide");
    let bomb = Inference { ratios: vec![9.0], slide: slide(512, 512), ..huge };
    says(run(&image, &bomb, 5), "lower the scale");
    for no_number in [f32::NAN, f32::INFINITY] {
        let model = |x: Tensor<4>| waves(x, 3) * no_number;
        let error = segment(&model, &image, &options(&[1.0], false, None), &Device::default());
        assert!(error.unwrap_err().to_string().contains("no numbers"));
    }
}
