//! What the head of masks learns: the mask of an object, seen from a region that stands for it.

use biformer_ops::{Roi, RoiAlignOptions, roi_align};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::boxes::{Xyxy, clip};
use super::losses::sigmoid_cross_entropy;
use super::roi_extractor::into_places;
use crate::data::detection::Rle;

/// Masks of objects, each cut out by a region and brought to `output_size` cells a side: whether at least half of a
/// cell is the object (mmdetection's `BitmapMasks.crop_and_resize`).
///
/// # Shapes
/// - regions: boxes, and which of the masks each of them is to cut out
/// - output: `[regions, output_size, output_size]`, 0 or 1
///
/// # Panics
/// If a region is for a mask that is not there.
pub fn mask_targets(
    masks: &[Rle],
    regions: &[(Xyxy, usize)],
    output_size: usize,
    device: &Device,
) -> Tensor<3> {
    let options =
        RoiAlignOptions { output_size, spatial_scale: 1.0, sampling_ratio: 0, aligned: true };
    let mut parts: Vec<(Vec<Roi>, Vec<usize>)> = vec![Default::default(); masks.len()];
    for (place, &(bbox, object)) in regions.iter().enumerate() {
        let size = masks[object].size().map(|side| side as f32);
        let (rois, places) = &mut parts[object];
        rois.push(Roi { picture: 0, xyxy: clip(bbox, size) });
        places.push(place);
    }
    // One after another: all at once they would be as many pictures of float32.
    let of_mask = |(mask, (rois, places)): (&Rle, (Vec<Roi>, Vec<usize>))| {
        (!rois.is_empty()).then(|| (roi_align(map(mask, device), &rois, &options), places))
    };
    let parts: Vec<_> = masks.iter().zip(parts).filter_map(of_mask).collect();
    if parts.is_empty() {
        return Tensor::zeros([0, output_size, output_size], device);
    }
    let shares = into_places(parts); // [regions, output_size, output_size, 1]
    shares.greater_equal_elem(0.5).float().squeeze_dim(3)
}

/// `[1, height, width, 1]`
fn map(mask: &Rle, device: &Device) -> Tensor<4> {
    let [height, width] = mask.size().map(|side| side as usize);
    let pixels: Vec<f32> = mask.decode().into_raw().into_iter().map(f32::from).collect();
    Tensor::from_data(TensorData::new(pixels, [1, height, width, 1]), device)
}

/// Mean cross entropy of all cells, each region asked for the mask of its class alone. `[1]`
///
/// # Shapes
/// - logits: `[regions, size, size, num_classes]`
/// - labels: `[regions]`
/// - targets: `[regions, size, size]`
pub fn mask_loss(logits: Tensor<4>, labels: &[usize], targets: Tensor<3>) -> Tensor<1> {
    sigmoid_cross_entropy(masks_of(logits, labels), targets).mean()
}

/// The mask of one class for each region.
///
/// # Shapes
/// - logits: `[regions, size, size, num_classes]`
/// - labels: `[regions]`
/// - output: `[regions, size, size]`
pub fn masks_of(logits: Tensor<4>, labels: &[usize]) -> Tensor<3> {
    let [regions, height, width, _] = logits.dims();
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let labels = TensorData::new(labels, [regions, 1, 1, 1]);
    let labels = Tensor::<4, Int>::from_data(labels, &logits.device());
    let labels = labels.expand([regions, height, width, 1]);
    logits.gather(3, labels).squeeze_dim(3)
}
