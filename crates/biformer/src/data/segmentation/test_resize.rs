//! The size at which a model sees a picture when it is tested.

use super::super::RgbImage;
use super::bilinear::{Window, resize_bilinear};

/// MMSegmentation's `Resize` with its ratio kept, and the official code's `AlignResize`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestResize {
    /// The longer side is at most the greater of these, the shorter one at most the other.
    pub img_scale: [u32; 2],
    /// Sides are then stretched to the next multiple of this; 1 changes nothing.
    pub size_divisor: u32,
}

impl TestResize {
    /// As the official UperNet is tested on ADE20K: shorter side 512, as far as the longer one stays below
    /// 2048.
    pub const KEEP_RATIO: Self = Self { img_scale: [2048, 512], size_divisor: 1 };

    /// As the official Semantic FPN is tested: stretched to multiples of 32 besides.
    pub const ALIGNED: Self = Self { img_scale: [2048, 512], size_divisor: 32 };

    /// The picture at `ratio` times the scale.
    ///
    /// # Shapes
    /// - image: `[image_height, image_width, 3]`
    /// - output: `[height, width, 3]`
    pub fn apply(&self, image: &RgbImage, ratio: f64) -> RgbImage {
        let [kept, aligned] = self.sizes(image.dimensions(), ratio);
        let resized = resize_bilinear(image, kept, Window::whole(kept));
        // Two resizes, as in the official code: the picture is interpolated twice.
        if kept == aligned {
            resized
        } else {
            resize_bilinear(&resized, aligned, Window::whole(aligned))
        }
    }

    /// The size of the result.
    pub fn size(&self, image: (u32, u32), ratio: f64) -> (u32, u32) {
        self.sizes(image, ratio)[1]
    }

    /// The size with the ratio kept, and then aligned.
    fn sizes(&self, image: (u32, u32), ratio: f64) -> [(u32, u32); 2] {
        let kept = rescaled(image, self.img_scale.map(|side| f64::from(side) * ratio));
        let aligned = |side: u32| side.next_multiple_of(self.size_divisor.max(1));
        [kept, (aligned(kept.0), aligned(kept.1))]
    }
}

/// The size that fits `scale`, whose greater side is for the longer one; sides of the scale are cut to
/// whole pixels, those of the result rounded, as in MMCV.
pub(in crate::data) fn rescaled((width, height): (u32, u32), scale: [f64; 2]) -> (u32, u32) {
    let [a, b] = scale.map(f64::floor);
    let (long, short) = (f64::from(width.max(height)), f64::from(width.min(height)));
    let factor = (a.max(b) / long).min(a.min(b) / short);
    let side = |pixels: u32| ((f64::from(pixels) * factor + 0.5) as u32).max(1);
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as MMCV computes them: `int(side * min(2048 / long, 512 / short) + 0.5)`.
    #[test]
    fn sizes_fit_the_scale() {
        let keep = TestResize::KEEP_RATIO;
        assert_eq!(keep.size((683, 512), 1.0), (683, 512));
        assert_eq!(keep.size((640, 480), 1.0), (683, 512)); // 682.67
        assert_eq!(keep.size((480, 640), 1.75), (896, 1195)); // 1194.67
        assert_eq!(keep.size((10_000, 100), 1.0), (2048, 20)); // 20.48
        assert_eq!(keep.size((1, 1), 1.0), (512, 512));
        assert_eq!(keep.size((10_000, 1), 1.0), (2048, 1)); // 0.2 would be no pixel at all
        assert_eq!(TestResize::ALIGNED.size((640, 480), 1.0), (704, 512));
        let camvid = TestResize { img_scale: [480, 360], size_divisor: 32 };
        assert_eq!(camvid.size((480, 360), 1.0), (480, 384));
        let image = RgbImage::new(64, 48);
        assert_eq!(camvid.apply(&image, 0.5).dimensions(), (256, 192)); // 240 x 180 before
    }
}
