//! RoIAlign (He et al., *Mask R-CNN*, ICCV 2017, §3): a box cut out of a map as a grid of bins, each the mean over
//! points between its tokens.
//!
//! The points of a bin are a grid, too, and the weight of a token is its weight along the rows times that along
//! the columns. So a box is a [resampling](fn@crate::resample) of its picture with [`Taps`] of its own.

pub(crate) mod autodiff;
pub(crate) mod cpu;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32};
use crate::profile::{self, Class};
use crate::resample::Taps;

/// A region of interest: a box in one of the pictures of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roi {
    /// Which picture.
    pub picture: usize,
    /// Left, top, right and bottom side, in pixels; finite.
    pub xyxy: [f32; 4],
}

/// How boxes are cut out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoiAlignOptions {
    /// Bins a side.
    pub output_size: usize,
    /// Tokens a pixel, 1 / stride.
    pub spatial_scale: f32,
    /// Points a side of each bin; 0: as many as the bin has tokens, rounded up.
    pub sampling_ratio: usize,
    /// Whether the first token lies half a token from the edge of the picture, where its centre is. If not, it lies
    /// on the edge, and boxes have at least the size of a token: RoIAlign as it was first published.
    pub aligned: bool,
}

/// The boxes cut out of the maps of their pictures.
///
/// Points up to a token outside of the map have the value of its border, others are 0. A box without
/// area has no points if the options leave their number to its size, and so is 0. There is no gradient for
/// boxes.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[rois, output_size, output_size, channels]`
///
/// # Panics
/// If the batch does not have the picture of a box, or its maps have no tokens.
pub fn roi_align(x: Tensor<4>, rois: &[Roi], options: &RoiAlignOptions) -> Tensor<4> {
    let _span = profile::span(Class::RoiAlign);
    match RoiSampling::new(x.dims(), rois, options) {
        Some(sampling) if is_cpu_f32(&x) => {
            Tensor::from_dispatch(Dispatch::fused_roi_align(x.into_dispatch(), sampling))
        }
        Some(sampling) => reference::roi_align(x, &sampling),
        None => nothing(x, options),
    }
}

/// [`roi_align`] by the definition, on any device.
pub fn roi_align_reference(x: Tensor<4>, rois: &[Roi], options: &RoiAlignOptions) -> Tensor<4> {
    match RoiSampling::new(x.dims(), rois, options) {
        Some(sampling) => reference::roi_align(x, &sampling),
        None => nothing(x, options),
    }
}

/// The output for no boxes.
fn nothing(x: Tensor<4>, options: &RoiAlignOptions) -> Tensor<4> {
    let [.., channels] = x.dims();
    Tensor::zeros([0, options.output_size, options.output_size, channels], &x.device())
}

/// What [`OpsBackend::fused_roi_align`] needs to know.
#[derive(Clone, Debug)]
pub struct RoiSampling {
    /// At least one.
    rois: Vec<RoiTaps>,
    /// Pictures, rows and columns of the maps.
    map: [usize; 3],
}

/// A box as sums of tokens.
#[derive(Clone, Debug)]
struct RoiTaps {
    picture: usize,
    rows: Taps,
    cols: Taps,
}

impl RoiSampling {
    fn new(shape: [usize; 4], rois: &[Roi], options: &RoiAlignOptions) -> Option<Self> {
        let [batch, height, width, _] = shape;
        let taps = |roi: &Roi| {
            let &Roi { picture, xyxy: [left, top, right, bottom] } = roi;
            assert!(
                picture < batch,
                "roi_align: got picture {picture}, expected less than {batch}"
            );
            RoiTaps {
                picture,
                rows: side([top, bottom], height, options),
                cols: side([left, right], width, options),
            }
        };
        let rois: Vec<RoiTaps> = rois.iter().map(taps).collect();
        (!rois.is_empty()).then_some(Self { rois, map: [batch, height, width] })
    }
}

/// The bins along one side of a box, as sums of the tokens around their points.
fn side(box_side: [f32; 2], tokens: usize, options: &RoiAlignOptions) -> Taps {
    let &RoiAlignOptions { output_size: bins, spatial_scale, sampling_ratio, aligned } = options;
    let offset = if aligned { 0.5 } else { 0.0 };
    let [start, end] = box_side.map(|edge| edge * spatial_scale - offset);
    let length = if aligned { end - start } else { (end - start).max(1.0) };
    let bin_length = length / bins as f32;
    let points = match sampling_ratio {
        0 => bin_length.ceil() as usize, // none for a length of 0 or less
        ratio => ratio,
    };
    Taps::new(tokens, bins, |bin| {
        let mut sum: Vec<(usize, f32)> = Vec::new();
        for point in 0..points {
            let in_bin = (point as f32 + 0.5) * bin_length / points as f32;
            let place = start + bin as f32 * bin_length + in_bin;
            if !(-1.0..=tokens as f32).contains(&place) {
                continue;
            }
            let place = place.clamp(0.0, (tokens - 1) as f32);
            let (first, part) = (place as usize, place.fract());
            for (token, weight) in [(first, 1.0 - part), (first + 1, part)] {
                let weight = weight / points as f32;
                match sum.iter_mut().rev().find(|(known, _)| *known == token) {
                    Some((_, sum)) => *sum += weight,
                    None if weight > 0.0 => sum.push((token, weight)),
                    None => {}
                }
            }
        }
        sum
    })
}
