//! The training pipeline: boxes and masks stay with their pixels, and each part does what its name says.

use std::path::PathBuf;

use biformer::data::detection::{
    AnnotatedPicture, DetectionTransform, Instance, ResizePad, Segmentation, stack_pictures,
};
use biformer::data::{Normalize, RgbImage};
use image::Rgb;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// A bright thing in each of `boxes` (left, top, width, height) on a dark ground.
fn bright(size: [u32; 2], boxes: &[[u32; 4]]) -> (AnnotatedPicture, RgbImage) {
    let [height, width] = size;
    let is_in =
        |x: u32, y: u32, b: &[u32; 4]| x >= b[0] && x < b[0] + b[2] && y >= b[1] && y < b[1] + b[3];
    let image = RgbImage::from_fn(width, height, |x, y| {
        Rgb([if boxes.iter().any(|b| is_in(x, y, b)) { 255 } else { 0 }; 3])
    });
    let instance = |(place, b): (usize, &[u32; 4])| {
        let bbox = b.map(f64::from);
        let [left, top, across, down] = bbox;
        let corners = [left, top, left + across, top, left + across, top + down, left, top + down];
        Instance {
            id: place as u64 + 1,
            label: place,
            bbox,
            area: across * down,
            is_crowd: false,
            segmentation: Some(Segmentation::Polygons(vec![corners.to_vec()])),
        }
    };
    let instances = boxes.iter().enumerate().map(instance).collect();
    let picture = AnnotatedPicture { image: PathBuf::from("a.png").into(), id: 1, size, instances };
    (picture, image)
}

#[test]
fn boxes_and_masks_stay_with_their_pixels() {
    let boxes = [[6, 10, 30, 20], [60, 4, 12, 50]];
    let (picture, image) = bright([70, 90], &boxes);
    let transform = DetectionTransform {
        img_scales: vec![[200, 140], [45, 35], [90, 70]],
        with_masks: true,
        ..DetectionTransform::new([90, 70])
    };
    let (mut mirrored, mut sizes) = (0, std::collections::BTreeMap::new());
    for seed in 0..60 {
        let sample = transform.apply(&picture, &image, &mut StdRng::seed_from_u64(seed));
        let [height, width] = sample.picture.size;
        *sizes.entry(height).or_insert(0) += 1;
        mirrored += usize::from(sample.picture.flipped);
        assert_eq!(sample.labels, [0, 1]);
        assert_eq!(sample.picture.original, [70, 90]);
        assert!(sample.picture.padded.iter().all(|side| side % 32 == 0));
        let scale = f64::from(sample.picture.scale[0]);
        for ((bbox, mask), [left, _, across, down]) in
            sample.boxes.iter().zip(&sample.masks).zip(boxes)
        {
            assert_eq!(mask.size(), [height as u32, width as u32]);
            let ideal = f64::from(across * down) * scale * scale;
            let area = f64::from((bbox[2] - bbox[0]) * (bbox[3] - bbox[1]));
            assert!((area / ideal - 1.0).abs() < 1e-4, "{area} of {ideal}");
            let left = scale as f32 * left as f32;
            let expected = if sample.picture.flipped { width as f32 - bbox[2] } else { bbox[0] };
            assert!((expected - left).abs() < 1e-3);
            // Nearest neighbours move an edge by a pixel at most.
            let seen = mask.bounding_box().map(|at| at as f32);
            let seen = [seen[0], seen[1], seen[0] + seen[2], seen[1] + seen[3]];
            for (a, b) in seen.iter().zip(bbox) {
                assert!((a - b).abs() <= 1.5, "{seen:?} {bbox:?}");
            }
        }
        // What is bright lies in the masks, but for blends at the edges.
        let all = sample.masks[0].union(&sample.masks[1]).decode();
        let plane = &sample.picture.pixels[..sample.picture.padded[0] * sample.picture.padded[1]];
        let middle = (0.5 - 0.485) / 0.229;
        let differ = (0..height * width).filter(|place| {
            let (row, column) = (place / width, place % width);
            let bright = plane[row * sample.picture.padded[1] + column] > middle;
            bright != (all.get_pixel(column as u32, row as u32)[0] == 1)
        });
        let edges = 2.0 * scale * f64::from(boxes.map(|b| b[2] + b[3]).iter().sum::<u32>());
        assert!((differ.count() as f64) <= edges, "seed {seed}");
    }
    assert_eq!(sizes.keys().copied().collect::<Vec<_>>(), [35, 70, 140]);
    assert!(sizes.values().all(|&count| count >= 10) && (18..=42).contains(&mirrored));
}

#[test]
fn sizes_are_those_of_mmdetection() {
    let resize = |width, height| {
        let prepared = ResizePad::COCO.apply(&RgbImage::new(width, height), false);
        assert_eq!(prepared.pixels.len(), 3 * prepared.padded[0] * prepared.padded[1]);
        (prepared.size, prepared.padded)
    };
    // Shorter side 800; longer side 1333; sides rounded, padded to 32.
    assert_eq!(resize(640, 480), ([800, 1067], [800, 1088]));
    assert_eq!(resize(640, 426), ([800, 1202], [800, 1216]));
    assert_eq!(resize(640, 360), ([750, 1333], [768, 1344]));
    assert_eq!(resize(333, 500), ([1201, 800], [1216, 800]));
    let scales = DetectionTransform::multi_scale().img_scales;
    assert_eq!((scales.len(), scales[0], scales[10]), (11, [1333, 480], [1333, 800]));
}

#[test]
fn what_cannot_be_learnt_is_left_out() {
    let boxes =
        [[5, 5, 10, 10], [20, 5, 10, 10], [5, 20, 10, 10], [20, 20, 10, 10], [30, 30, 10, 10]];
    let (mut picture, image) = bright([48, 48], &boxes);
    picture.instances[0].is_crowd = true;
    picture.instances[1].bbox = [50.0, 5.0, 10.0, 10.0]; // outside
    picture.instances[2].bbox[2] = 0.5;
    picture.instances[3].area = 0.0;
    let transform =
        DetectionTransform { hflip: 0.0, with_masks: true, ..DetectionTransform::new([48, 48]) };
    let apply = |picture: &AnnotatedPicture| {
        transform.apply(picture, &image, &mut StdRng::seed_from_u64(0))
    };
    let sample = apply(&picture);
    assert_eq!(
        (sample.labels.as_slice(), sample.boxes.as_slice()),
        (&[4][..], &[[30.0, 30.0, 40.0, 40.0]][..])
    );
    assert_eq!((sample.masks.len(), sample.ignored.as_slice()), (1, &[[5.0, 5.0, 15.0, 15.0]][..]));
    // Beyond the edge it is cut off; without a pixel in its mask there is nothing to learn from it.
    picture.instances[4].bbox = [40.0, -3.0, 20.0, 10.0];
    assert_eq!(apply(&picture).boxes, [[40.0, 0.0, 48.0, 7.0]]);
    picture.instances[4].segmentation =
        Some(Segmentation::Polygons(vec![vec![1.0, 2.0, 3.0, 4.0]]));
    assert!(apply(&picture).boxes.is_empty() && apply(&picture).masks.is_empty());
}

#[test]
fn pictures_of_a_batch_are_padded_with_zeros() {
    let white = |width, height| RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let resize = ResizePad { size_divisor: 4, ..ResizePad::new([8, 8]) };
    let prepared = [white(8, 5), white(3, 8)].map(|image| resize.apply(&image, false));
    assert_eq!([prepared[0].padded, prepared[1].padded], [[8, 8], [8, 4]]);
    let (values, size) = stack_pictures(&[&prepared[0], &prepared[1]]);
    assert_eq!((size, values.len()), ([8, 8], 2 * 3 * 64));
    let white = Normalize::IMAGENET.apply(&white(1, 1));
    for (place, &value) in values.iter().enumerate() {
        let (picture, channel, row, column) =
            (place / 192, place / 64 % 3, place / 8 % 8, place % 8);
        let inside = if picture == 0 { row < 5 } else { column < 3 };
        assert_eq!(value, if inside { white[channel] } else { 0.0 }, "{place}");
    }
}
