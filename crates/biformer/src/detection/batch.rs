//! Samples of the loader as tensors.

use burn::tensor::{Device, Tensor, TensorData};

use super::ground_truth::{GroundTruth, PictureSize};
use crate::data::detection::{DetectionSample, PreparedPicture, stack_pictures};

/// Pictures of a batch on the device, padded to the largest of them, and what is true of each.
///
/// # Shapes
/// - outputs: `[batch, 3, height, width]`, `[batch]`
pub fn batch_tensors(
    samples: &[DetectionSample],
    device: &Device,
) -> (Tensor<4>, Vec<GroundTruth>) {
    let pictures: Vec<_> = samples.iter().map(|sample| &sample.picture).collect();
    let truth = |sample: &DetectionSample| GroundTruth {
        boxes: sample.boxes.clone(),
        labels: sample.labels.clone(),
        masks: sample.masks.clone(),
        size: (&sample.picture).into(),
        seed: sample.seed,
    };
    (picture_tensor(&pictures, device), samples.iter().map(truth).collect())
}

/// # Shapes
/// - output: `[batch, 3, height, width]`
pub(super) fn picture_tensor(pictures: &[&PreparedPicture], device: &Device) -> Tensor<4> {
    let (pixels, [height, width]) = stack_pictures(pictures);
    Tensor::from_data(TensorData::new(pixels, [pictures.len(), 3, height, width]), device)
}

impl From<&PreparedPicture> for PictureSize {
    fn from(picture: &PreparedPicture) -> Self {
        Self { original: picture.original, resized: picture.size, padded: picture.padded }
    }
}
