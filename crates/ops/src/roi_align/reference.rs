//! The definition: each box a resampling of its picture.

use burn::tensor::Tensor;

use super::{RoiSampling, RoiTaps};
use crate::resample::resample_reference;

pub(super) fn roi_align(x: Tensor<4>, sampling: &RoiSampling) -> Tensor<4> {
    let bins = |RoiTaps { picture, rows, cols }: &RoiTaps| {
        resample_reference(x.clone().narrow(0, *picture, 1), rows, cols)
    };
    Tensor::cat(sampling.rois.iter().map(bins).collect(), 0)
}
