//! What is true of a picture.

use super::boxes::Xyxy;
use crate::data::detection::Rle;

/// Heights and widths of a picture, `[height, width]` in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    /// Of the file.
    pub original: [usize; 2],
    /// Before the model, without padding.
    pub resized: [usize; 2],
    /// With its own padding, which is below and to the right; a batch may pad it further.
    pub padded: [usize; 2],
}

impl PictureSize {
    /// A box of the resized picture in pixels of the original one.
    pub fn to_original(&self, [x1, y1, x2, y2]: Xyxy) -> Xyxy {
        let [down, across]: [f32; 2] =
            std::array::from_fn(|axis| self.resized[axis] as f32 / self.original[axis] as f32);
        [x1 / across, y1 / down, x2 / across, y2 / down]
    }
}

/// The objects of a picture, in pixels of the resized one.
#[derive(Clone, Debug, PartialEq)]
pub struct GroundTruth {
    /// `[objects]`, each with an area.
    pub boxes: Vec<Xyxy>,
    /// `[objects]`
    pub labels: Vec<usize>,
    /// `[objects]`, of the size of the resized picture; none where only boxes are learnt.
    pub masks: Vec<Rle>,
    /// Of the picture.
    pub size: PictureSize,
    /// What the draws for this picture begin with, where a method draws.
    pub seed: u64,
}
