//! What training does to a picture and its labels: the pipeline of MMSegmentation's configurations.

use image::imageops::flip_horizontal_in_place;
use rand::{Rng, RngExt};

use super::super::{Normalize, RgbImage};
use super::bilinear::{Window, resize_bilinear, resize_nearest};
use super::photometric::PhotoMetricDistortion;
use super::seg_map::{IGNORE_INDEX, SegMap};
use super::test_resize::rescaled;

/// Random size, random piece, perhaps mirrored, changed in colour, normalised, and padded to a square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentationTransform {
    /// The longer side is at most the greater of these, the shorter one at most the other, times a factor.
    pub img_scale: [u32; 2],
    /// Least and greatest of the factor.
    pub ratio_range: (f64, f64),
    /// Side of the square that the model sees.
    pub crop_size: usize,
    /// The piece is drawn anew, up to ten times, until no class has this part of its pixels or more.
    pub cat_max_ratio: f64,
    /// Probability of a mirror image.
    pub hflip: f64,
    /// Changes in colour.
    pub photometric: Option<PhotoMetricDistortion>,
}

/// What becomes of a picture and its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationSample {
    /// `[3, crop_size, crop_size]`; 0 where the picture has ended.
    pub pixels: Vec<f32>,
    /// `[crop_size, crop_size]`; [`IGNORE_INDEX`] where the picture has ended.
    pub labels: Vec<u8>,
}

impl SegmentationTransform {
    /// As the official models are trained on ADE20K, but for the size: `(2048, 512)` there, and 512.
    pub fn new(img_scale: [u32; 2], crop_size: usize) -> Self {
        Self {
            img_scale,
            ratio_range: (0.5, 2.0),
            crop_size,
            cat_max_ratio: 0.75,
            hflip: 0.5,
            photometric: Some(PhotoMetricDistortion::default()),
        }
    }

    /// A picture and its labels to what the model takes.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    /// - map: `[height, width]`
    ///
    /// # Panics
    /// If their sizes differ.
    pub fn apply(&self, image: &RgbImage, map: &SegMap, rng: &mut impl Rng) -> SegmentationSample {
        let (image, map) = self.apply_u8(image, map, rng);
        let (side, width) = (self.crop_size, image.width() as usize);
        let mut pixels = vec![0.0; 3 * side * side];
        let mut labels = vec![IGNORE_INDEX; side * side];
        let values = Normalize::IMAGENET.apply(&image); // [3, height, width]
        for (plane, values) in
            pixels.chunks_exact_mut(side * side).zip(values.chunks_exact(values.len() / 3))
        {
            for (padded, row) in plane.chunks_exact_mut(side).zip(values.chunks_exact(width)) {
                padded[..width].copy_from_slice(row);
            }
        }
        for (padded, row) in labels.chunks_exact_mut(side).zip(map.as_raw().chunks_exact(width)) {
            padded[..width].copy_from_slice(row);
        }
        SegmentationSample { pixels, labels }
    }

    /// The same without normalisation and padding, for those who want to look at it.
    ///
    /// # Shapes
    /// - image, outputs: as for [`apply`](Self::apply), the outputs with sides up to `crop_size`
    pub fn apply_u8(
        &self,
        image: &RgbImage,
        map: &SegMap,
        rng: &mut impl Rng,
    ) -> (RgbImage, SegMap) {
        assert!(self.crop_size > 0, "SegmentationTransform: expected a positive crop_size, got: 0");
        assert_eq!(image.dimensions(), map.dimensions(), "expected a label for each pixel");
        let ratio = rng.random_range(self.ratio_range.0..=self.ratio_range.1);
        let scale = self.img_scale.map(|side| f64::from(side) * ratio);
        let size = rescaled(image.dimensions(), scale);
        let (window, mut map) = self.crop(map, size, rng);
        // Of the resized picture, only the piece is made.
        let mut image = resize_bilinear(image, size, window);
        if rng.random_bool(self.hflip) {
            flip_horizontal_in_place(&mut image);
            flip_horizontal_in_place(&mut map);
        }
        if let Some(distortion) = &self.photometric {
            distortion.apply(&mut image, rng);
        }
        (image, map)
    }

    /// Draws the piece of the picture resized to `size`, and gives its labels.
    fn crop(&self, map: &SegMap, size: (u32, u32), rng: &mut impl Rng) -> (Window, SegMap) {
        const ATTEMPTS: usize = 10;
        let mut draw = || {
            let crop = self.crop_size as u32;
            let (width, height) = (size.0.min(crop), size.1.min(crop));
            let top = rng.random_range(0..=size.1 - height);
            let left = rng.random_range(0..=size.0 - width);
            let window = Window { left, top, width, height };
            (window, resize_nearest(map, size, window))
        };
        let mut piece = draw();
        for _ in 0..ATTEMPTS {
            if self.cat_max_ratio >= 1.0 || is_varied(&piece.1, self.cat_max_ratio) {
                break;
            }
            piece = draw();
        }
        piece
    }
}

/// Whether there are several classes, and none with `cat_max_ratio` or more of the pixels that count.
fn is_varied(map: &SegMap, cat_max_ratio: f64) -> bool {
    let mut counts = [0u32; 256];
    map.as_raw().iter().for_each(|&class| counts[usize::from(class)] += 1);
    counts[usize::from(IGNORE_INDEX)] = 0;
    let (most, all) = (counts.iter().max().copied().unwrap_or(0), counts.iter().sum::<u32>());
    // A single class has all of them, and no pixel at all gives 0 / 0.
    f64::from(most) / f64::from(all) < cat_max_ratio.min(1.0)
}
