//! The baseline that a picture set must defeat: nearest centroid on colour histograms.
//!
//! It sees how often each colour occurs and nothing of where. A set on which it does well can be
//! told apart by colour, and a network's accuracy there says little about shape.

use image::RgbImage;

/// Bins per channel; the joint histogram has this number cubed.
const BINS: usize = 8;

/// The share of `val` that gets the right label from the nearest class mean of `train`.
///
/// Labels are below `num_classes`. A class without training pictures is never predicted; without
/// validation pictures the accuracy is zero.
///
/// # Panics
/// If a training label is not below `num_classes`.
pub fn accuracy(train: &[(RgbImage, usize)], val: &[(RgbImage, usize)], num_classes: usize) -> f64 {
    let centroids = centroids(train, num_classes);
    let right = val
        .iter()
        .filter(|(image, label)| nearest(&centroids, &color_histogram(image)) == Some(*label))
        .count();
    right as f64 / val.len().max(1) as f64
}

/// How often each of the 8 × 8 × 8 colours occurs, scaled to length one.
pub fn color_histogram(image: &RgbImage) -> Vec<f32> {
    let mut histogram = vec![0.0; BINS.pow(3)];
    for pixel in image.pixels() {
        let [r, g, b] = pixel.0.map(|channel| usize::from(channel) * BINS / 256);
        histogram[(r * BINS + g) * BINS + b] += 1.0;
    }
    scale_to_length_one(&mut histogram);
    histogram
}

/// The mean histogram of each class, scaled to length one; `None` for a class without pictures.
fn centroids(train: &[(RgbImage, usize)], num_classes: usize) -> Vec<Option<Vec<f32>>> {
    let mut sums: Vec<Option<Vec<f32>>> = vec![None; num_classes];
    for (image, label) in train {
        let sum = sums[*label].get_or_insert_with(|| vec![0.0; BINS.pow(3)]);
        sum.iter_mut().zip(color_histogram(image)).for_each(|(sum, share)| *sum += share);
    }
    sums.iter_mut().flatten().for_each(|sum| scale_to_length_one(sum));
    sums
}

/// The class of the nearest centroid: of two vectors of length one, the larger product is nearer.
fn nearest(centroids: &[Option<Vec<f32>>], histogram: &[f32]) -> Option<usize> {
    let similarity = |centroid: &[f32]| -> f32 {
        centroid.iter().zip(histogram).map(|(centroid, share)| centroid * share).sum()
    };
    centroids
        .iter()
        .enumerate()
        .filter_map(|(class, centroid)| Some((class, similarity(centroid.as_ref()?))))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(class, _)| class)
}

fn scale_to_length_one(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}
