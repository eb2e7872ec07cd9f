//! Pairs in batches, and the generated set.

use std::ops::ControlFlow;

use biformer::data::segmentation::{
    LabeledPicture, SegmentationFolder, SegmentationSample, SegmentationSet, SegmentationTransform,
    TestResize,
};
use biformer::data::shapes::{CLASSES, ShapesConfig, write_segmentation_folder};
use biformer::data::{DataLoader, Example};
use biformer::segmentation::{
    Inference, PixelConfusion, batch_tensors, evaluate, majority_baseline, majority_class,
    write_per_class_csv,
};
use burn::tensor::{Device, Tensor, s};
use tempfile::{TempDir, tempdir};

use super::files::write_labels;

/// Two pictures of each shape.
fn shapes() -> (TempDir, SegmentationFolder) {
    let folder = tempdir().unwrap();
    let config = ShapesConfig {
        img_size: 64,
        train_per_class: 2,
        val_per_class: 1,
        ..ShapesConfig::default()
    };
    write_segmentation_folder(folder.path(), &config).unwrap();
    let set = SegmentationSet::find(folder.path(), None).unwrap();
    let samples = SegmentationFolder::open(folder.path(), set, "train").unwrap();
    (folder, samples)
}

#[test]
fn a_generated_set_has_a_shape_in_each_picture() {
    let (folder, set) = shapes();
    let again = write_segmentation_folder(folder.path(), &ShapesConfig::default());
    assert!(again.unwrap_err().to_string().contains("holds `images` already"));
    assert_eq!((set.samples.len(), set.set.classes.len()), (16, 1 + CLASSES.len()));
    let counts = set.count_pixels().unwrap();
    assert_eq!(counts.iter().sum::<u64>(), 16 * 64 * 64);
    assert_eq!(majority_class(&counts), 0);
    for (class, &count) in counts.iter().enumerate().skip(1) {
        let share = count as f64 / (2.0 * 64.0 * 64.0);
        assert!((0.05..0.6).contains(&share), "{}: {share}", set.set.classes[class]);
    }
    // The object is lighter than the ground. Clutter and bars may be anything, so that now and then
    // the rest is lighter; of maps that lie elsewhere, half would be.
    let is_lighter = |sample: &&LabeledPicture| {
        let (image, map) = sample.decode().unwrap();
        let mean = |inside: bool| {
            let pixels = image.pixels().zip(map.pixels());
            let pixels = pixels.filter(|(_, label)| (label[0] > 0) == inside);
            let levels: Vec<f64> = pixels.map(|(pixel, _)| f64::from(pixel[1])).collect();
            levels.iter().sum::<f64>() / levels.len() as f64
        };
        mean(true) > mean(false)
    };
    assert!(set.samples.iter().filter(is_lighter).count() >= 14);
}

#[test]
fn batches_do_not_depend_on_threads() {
    let (_folder, set) = shapes();
    let batches = |workers| {
        let loader = DataLoader {
            shuffle: true,
            seed: 5,
            workers,
            ..DataLoader::new(set.samples.clone(), 3)
        };
        let transform = SegmentationTransform::new([64, 64], 48);
        let batches =
            loader.load(2, 0, move |_, (image, map), rng| Ok(transform.apply(image, map, rng)));
        batches.map(|batch| batch.samples).collect::<Vec<Vec<SegmentationSample>>>()
    };
    let alone = batches(1);
    assert_eq!(alone.iter().map(Vec::len).collect::<Vec<_>>(), [3; 5]);
    assert!(alone == batches(4));

    let (images, labels) = batch_tensors(&alone[0], &Device::default());
    assert_eq!((images.dims(), labels.dims()), ([3, 3, 48, 48], [3, 48, 48]));
    let last = labels.slice(s![2..3]).into_data_as::<i64>().try_into_vec::<i64>().unwrap();
    assert!(last.iter().zip(&alone[0][2].labels).all(|(&found, &label)| found == i64::from(label)));
    let last = images.slice(s![2..3]).into_data().try_into_vec::<f32>().unwrap();
    assert_eq!(last, alone[0][2].pixels);
}

#[test]
fn a_wrong_label_is_left_out_with_its_reason_and_stops_an_evaluation() {
    let (_folder, set) = shapes();
    let wrong = &set.samples[4].labels;
    write_labels(wrong, [64, 64], &[200; 64 * 64]);
    let loader = DataLoader::new(set.samples.clone(), 8);
    let batch = loader.clone().load(0, 0, |_, _, _| Ok(())).next().unwrap();
    assert_eq!((batch.samples.len(), batch.of), (7, 8));
    let [(path, reason)] = batch.skipped.as_slice() else { panic!("{:?}", batch.skipped) };
    assert_eq!(*path, *set.samples[4].image.path());
    assert!(reason.contains("column 0, row 0 is 200"), "{reason}");

    let inference = Inference::single_scale(TestResize::ALIGNED);
    let error =
        evaluate(&ground, loader, 9, &inference, &Device::default(), |_| ControlFlow::Continue(()));
    assert!(error.unwrap_err().to_string().contains("is 200"));
}

/// Says ground of everything.
fn ground(x: Tensor<4>) -> Tensor<4> {
    let [batch, _, height, width] = x.dims();
    let shape = |classes| [batch, classes, height / 4, width / 4];
    let device = x.device();
    Tensor::cat(vec![Tensor::ones(shape(1), &device), Tensor::zeros(shape(8), &device)], 1)
}

#[test]
fn evaluation_of_a_constant_is_the_baseline() {
    let (folder, set) = shapes();
    let counts = set.count_pixels().unwrap();
    let loader = DataLoader::new(set.samples.clone(), 5);
    let inference = Inference::single_scale(TestResize { img_scale: [64, 64], size_divisor: 32 });
    let mut seen = 0;
    let device = Device::default();
    let confusion = evaluate(&ground, loader.clone(), 9, &inference, &device, |batch| {
        for segmented in &batch.pictures {
            assert_eq!(segmented.prediction.dimensions(), segmented.image.dimensions());
        }
        assert_eq!(batch.pictures.len(), batch.of);
        seen += batch.of;
        ControlFlow::Continue(())
    });
    let confusion = confusion.unwrap().unwrap();
    assert_eq!(seen, 16);
    assert_eq!(confusion, majority_baseline(majority_class(&counts), &counts));
    assert!(confusion.mean_iou() > 0.0 && confusion.mean_iou() < 1.0 / 9.0);
    let stopped = evaluate(&ground, loader, 9, &inference, &device, |_| ControlFlow::Break(()));
    assert_eq!(stopped.unwrap(), None);

    let path = folder.path().join("per_class.csv");
    write_per_class_csv(&path, &confusion, &set.set.classes).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.starts_with("index,class,pixels,predicted,iou,accuracy\n0,background,"));
    assert!(text.contains(",0,0.0000,0.0000\n"));
    let empty = PixelConfusion::new(9);
    assert!(empty.mean_iou().is_nan());
}
