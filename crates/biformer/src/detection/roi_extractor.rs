//! Features of regions of interest: each cut out of the level of a pyramid that fits its size (Lin et al.,
//! *Feature Pyramid Networks*, CVPR 2017, Eq. 1; mmdetection's `SingleRoIExtractor`).

use biformer_ops::{Roi, RoiAlignOptions, roi_align};
use burn::tensor::Tensor;

use super::boxes::Xyxy;
use super::rpn_losses::indices;

/// Which level a region is cut out of, and into how many bins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoiExtractor {
    /// Bins a side.
    pub output_size: usize,
    /// Side of a square in pixels below twice which regions belong to the finest level.
    pub finest_scale: f32,
}

/// Pixels along a token of P2; each further level has twice as many.
const FINEST_STRIDE: f32 = 4.0;

impl RoiExtractor {
    /// For boxes.
    pub const BOXES: Self = Self { output_size: 7, finest_scale: 56.0 };

    /// For masks.
    pub const MASKS: Self = Self { output_size: 14, finest_scale: 56.0 };

    /// The level of a box among `levels`, finest first: one up with each doubling of its size.
    pub fn level(&self, [x1, y1, x2, y2]: Xyxy, levels: usize) -> usize {
        let scale = ((x2 - x1) * (y2 - y1)).sqrt();
        let level = (scale / self.finest_scale + 1e-6).log2().floor();
        (level.max(0.0) as usize).min(levels - 1)
    }

    /// # Shapes
    /// - levels: P2–P5, `[batch, height, width, channels]`
    /// - output: `[rois, output_size, output_size, channels]`
    ///
    /// # Panics
    /// If there is no level, or not the picture of a region.
    pub fn forward(&self, levels: &[Tensor<4>], rois: &[Roi]) -> Tensor<4> {
        let mut parts: Vec<(Vec<Roi>, Vec<usize>)> = vec![Default::default(); levels.len()];
        for (place, &roi) in rois.iter().enumerate() {
            let (rois, places) = &mut parts[self.level(roi.xyxy, levels.len())];
            rois.push(roi);
            places.push(place);
        }
        let of_level = |(level, (rois, places)): (usize, (Vec<Roi>, Vec<usize>))| {
            let options = RoiAlignOptions {
                output_size: self.output_size,
                spatial_scale: 1.0 / (FINEST_STRIDE * (1 << level) as f32),
                sampling_ratio: 0,
                aligned: true,
            };
            (!rois.is_empty()).then(|| (roi_align(levels[level].clone(), &rois, &options), places))
        };
        let parts: Vec<_> = parts.into_iter().enumerate().filter_map(of_level).collect();
        if parts.is_empty() {
            let ([.., channels], size) = (levels[0].dims(), self.output_size);
            return Tensor::zeros([0, size, size, channels], &levels[0].device());
        }
        into_places(parts)
    }
}

/// The rows of all parts, each brought to its place in the whole.
///
/// # Panics
/// If there is no part.
pub(super) fn into_places<const D: usize>(parts: Vec<(Tensor<D>, Vec<usize>)>) -> Tensor<D> {
    let (mut parts, places): (Vec<Tensor<D>>, Vec<Vec<usize>>) = parts.into_iter().unzip();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let places = places.concat();
    let mut sources = vec![0; places.len()];
    for (source, &place) in places.iter().enumerate() {
        sources[place] = source as i64;
    }
    let sources = indices(&sources, &parts[0].device());
    Tensor::cat(parts, 0).select(0, sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_up_with_each_doubling() {
        let level = |side: f32| RoiExtractor::BOXES.level([3.0, 5.0, 3.0 + side, 5.0 + side], 4);
        assert_eq!(
            [0.0, 55.0, 56.0, 111.0, 112.0, 224.0, 448.0, 4000.0].map(level),
            [0, 0, 0, 0, 1, 2, 3, 3]
        );
        // Half of the area of a square of 224.
        assert_eq!(RoiExtractor::BOXES.level([0.0, 0.0, 224.0, 112.0], 4), 1);
    }
}
