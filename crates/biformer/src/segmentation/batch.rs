//! Samples of the loader as tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::segmentation::SegmentationSample;

/// Pictures and labels of a batch on the device; labels are classes, or
/// [`IGNORE_INDEX`](crate::data::segmentation::IGNORE_INDEX).
///
/// # Shapes
/// - outputs: `[batch, 3, crop_size, crop_size]`, `[batch, crop_size, crop_size]`
pub fn batch_tensors(
    samples: &[SegmentationSample],
    device: &Device,
) -> (Tensor<4>, Tensor<3, Int>) {
    let count = samples.len();
    let side = samples.first().map_or(0, |sample| sample.labels.len().isqrt());
    let pixels: Vec<f32> = samples.iter().flat_map(|sample| &sample.pixels).copied().collect();
    let labels: Vec<i32> =
        samples.iter().flat_map(|sample| &sample.labels).map(|&label| label.into()).collect();
    (
        Tensor::from_data(TensorData::new(pixels, [count, 3, side, side]), device),
        Tensor::from_data(TensorData::new(labels, [count, side, side]), device),
    )
}
