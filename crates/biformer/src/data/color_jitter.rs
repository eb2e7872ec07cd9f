//! torchvision's `ColorJitter` as timm uses it: brightness, contrast and saturation, no hue.

use image::RgbImage;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::pil_ops::{brightness, color, contrast};

/// Changes brightness, contrast and saturation in random order, each by its own factor from
/// `1 - strength`, but not below 0, to `1 + strength`.
///
/// # Shapes
/// - image, output: `[height, width, 3]`
pub fn color_jitter(mut image: RgbImage, strength: f64, rng: &mut impl Rng) -> RgbImage {
    let mut operations: [fn(&RgbImage, f32) -> RgbImage; 3] = [brightness, contrast, color];
    operations.shuffle(rng);
    for operation in operations {
        let factor = rng.random_range((1.0 - strength).max(0.0)..=1.0 + strength);
        image = operation(&image, factor as f32);
    }
    image
}
