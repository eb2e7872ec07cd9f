//! From a picture of any size to what is where in it.

use burn::tensor::Device;

use super::batch::picture_tensor;
use super::detections::{DetectOptions, Detection};
use super::model::Detector;
use crate::data::RgbImage;
use crate::data::detection::ResizePad;
use crate::{Error, Result};

/// How a picture is looked at, and what is told of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inference {
    /// Size of the picture before the model.
    pub resize: ResizePad,
    /// What becomes of the boxes.
    pub options: DetectOptions,
}

impl Inference {
    /// That of the official tests, at another size.
    pub fn new(resize: ResizePad) -> Self {
        Self { resize, options: DetectOptions::default() }
    }

    /// # Errors
    /// [`Error::Option`] with what is out of its range.
    pub fn check(&self) -> Result<()> {
        let unit = 0.0..=1.0;
        let rules = [
            ("score_threshold", unit.contains(&self.options.score_threshold), "from 0 to 1"),
            ("iou_threshold", unit.contains(&self.options.iou_threshold), "from 0 to 1"),
            ("max_per_image", self.options.max_per_image > 0, "1 or more"),
            ("img_scale", !self.resize.img_scale.contains(&0), "two positive sides"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((option, _, range)) => Err(Error::option(option, format!("expected {range}"))),
            None => Ok(()),
        }
    }
}

/// Most pixels that a model is given at once, those of padding included: more would ask for too much memory.
pub const MAX_MODEL_PIXELS: u64 = 1 << 23;

/// What `model` finds in a picture, best first, in pixels of the picture.
///
/// # Shapes
/// - image: `[height, width, 3]`
///
/// # Errors
/// [`Error::Option`] if an option is out of its range, the picture would have more than [`MAX_MODEL_PIXELS`] for
/// the model, or the outputs of the model are no numbers.
pub fn detect(
    model: &Detector,
    image: &RgbImage,
    inference: &Inference,
    device: &Device,
) -> Result<Vec<Detection>> {
    inference.check()?;
    check_size(inference.resize)?;
    let picture = inference.resize.apply(image, false);
    let x = picture_tensor(&[&picture], device);
    let mut found = model.detect(x, &[(&picture).into()], &inference.options)?;
    Ok(found.swap_remove(0))
}

/// Whether memory suffices for the largest picture that such a size allows.
fn check_size(resize: ResizePad) -> Result<()> {
    let divisor = u64::from(resize.size_divisor.max(1));
    let [height, width] = resize.img_scale.map(|side| u64::from(side).next_multiple_of(divisor));
    let pixels = height.saturating_mul(width);
    if pixels <= MAX_MODEL_PIXELS {
        return Ok(());
    }
    let [a, b] = resize.img_scale;
    let reason = format!(
        "pictures could have {pixels} pixels at {a}x{b}, the limit is {MAX_MODEL_PIXELS}; lower the scale"
    );
    Err(Error::option("img_scale", reason))
}
