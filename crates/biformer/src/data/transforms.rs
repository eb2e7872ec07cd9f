//! Picture to numbers: what timm and torchvision do before the first layer, with Pillow's pixels.

use image::imageops::{flip_horizontal_in_place, replace};
use image::{Rgb, RgbImage};
use rand::{Rng, RngExt};

use super::color_jitter::color_jitter;
use super::resample::{Axis, Filter, resize_shown};
use super::{RandAugment, RandomErasing};

/// Subtracts the mean and divides by the standard deviation of each channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalize {
    /// Mean of red, green and blue, on the scale 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, on the scale 0 to 1.
    pub std: [f32; 3],
}

impl Normalize {
    /// The statistics of ImageNet, which every published weight expects.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// 8-bit pixels to normalised values, channel by channel.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    /// - output: `[3, height, width]`
    pub fn apply(&self, image: &RgbImage) -> Vec<f32> {
        let mut values = Vec::with_capacity(image.as_raw().len());
        for channel in 0..3 {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let table: [f32; 256] =
                std::array::from_fn(|level| (level as f32 / 255.0 - mean) / std);
            values.extend(image.pixels().map(|pixel| table[usize::from(pixel[channel])]));
        }
        values // [3, height, width]
    }

    /// The mean as a colour, which becomes about zero: what empty places are filled with.
    pub fn mean_color(&self) -> Rgb<u8> {
        Rgb(self.mean.map(|mean| (255.0 * mean).round_ties_even() as u8))
    }
}

impl Default for Normalize {
    fn default() -> Self {
        Self::IMAGENET
    }
}

/// The evaluation transform: shorter side to `img_size / crop_pct`, centre crop, normalise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalTransform {
    /// Side of the square that the model sees.
    pub img_size: usize,
    /// Part of the shorter side that the square keeps: 0.875 means 224 of 256.
    pub crop_pct: f64,
    /// Statistics of the data set.
    pub normalize: Normalize,
}

impl EvalTransform {
    /// The official evaluation at `img_size`: `crop_pct` 0.875, statistics of ImageNet.
    pub fn new(img_size: usize) -> Self {
        Self { img_size, crop_pct: 0.875, normalize: Normalize::IMAGENET }
    }

    /// Decoded picture to the values that the model takes.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    /// - output: `[3, img_size, img_size]`
    pub fn apply(&self, image: &RgbImage) -> Vec<f32> {
        self.normalize.apply(&self.apply_u8(image))
    }

    /// The same without the normalisation, for those who want to look at it.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    /// - output: `[img_size, img_size, 3]`
    pub fn apply_u8(&self, image: &RgbImage) -> RgbImage {
        assert!(
            self.img_size > 0 && self.crop_pct > 0.0,
            "EvalTransform: expected positive options, got: {self:?}"
        );
        let img_size = self.img_size as u32;
        let short_side = (f64::from(img_size) / self.crop_pct).floor().max(1.0);
        let [width, height] = resized_size(image.dimensions(), short_side);
        let (columns, left) = centre_crop(image.width(), width, img_size);
        let (rows, top) = centre_crop(image.height(), height, img_size);
        let visible = resize_shown(image, &columns, &rows, Filter::Bicubic);
        if visible.dimensions() == (img_size, img_size) {
            return visible;
        }
        let mut padded = RgbImage::from_pixel(img_size, img_size, Rgb([0; 3]));
        replace(&mut padded, &visible, i64::from(left), i64::from(top));
        padded
    }

    /// Where a point of the picture lies in what the model sees, from the left and from above: in 0..1,
    /// or outside of that if it is cut off. Exact to a pixel of the model's.
    pub fn locate(&self, point: [f64; 2], picture: (u32, u32)) -> [f64; 2] {
        let [left, top] = self.seen_part(picture);
        let along = |x: f64, [first, last]: [f64; 2]| (x - first) / (last - first);
        [along(point[0], left), along(point[1], top)]
    }

    /// The pixels of the picture that the model sees: first and last from the left, and from above.
    pub fn seen(&self, picture: (u32, u32)) -> [[u32; 2]; 2] {
        let [across, down] = self.seen_part(picture);
        [(across, picture.0), (down, picture.1)].map(|([first, last], size)| {
            let last = last.min(f64::from(size)) - 1.0;
            [first, last].map(|pixel| pixel.max(0.0).round() as u32)
        })
    }

    /// Where what the model sees begins and ends, from the left and from above, in pixels of the picture.
    fn seen_part(&self, picture: (u32, u32)) -> [[f64; 2]; 2] {
        let img_size = self.img_size as f64;
        let [width, height] = resized_size(picture, (img_size / self.crop_pct).floor().max(1.0));
        let part = |size: u32, resized: u32| {
            let (scale, resized) = (f64::from(size) / f64::from(resized), f64::from(resized));
            [-1.0, 1.0].map(|side| scale * (resized + side * img_size) / 2.0)
        };
        [part(picture.0, width), part(picture.1, height)]
    }
}

/// Which part of a picture a training transform shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Width and height of the picture.
    pub picture: (u32, u32),
    /// The piece, as `[left, top, width, height]`.
    pub piece: [u32; 4],
    /// Whether it is shown mirrored.
    pub flipped: bool,
}

/// The training transform: a random piece of the picture, resized to a square, perhaps mirrored,
/// perhaps changed in colour and place, normalised, perhaps erased in part.
///
/// torchvision's `RandomResizedCrop` (bicubic) and `RandomHorizontalFlip`; then RandAugment or colour
/// jitter, and after the normalisation Random Erasing, in timm's order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainTransform {
    /// Side of the square that the model sees.
    pub img_size: usize,
    /// Least and greatest area of the piece, as a part of the picture.
    pub scale: (f64, f64),
    /// Least and greatest width over height of the piece.
    pub ratio: (f64, f64),
    /// Probability of a mirror image.
    pub hflip: f64,
    /// Random operations on the square.
    pub auto_augment: Option<RandAugment>,
    /// Strength of [`color_jitter`]; 0 is off, and RandAugment takes its place.
    pub color_jitter: f64,
    /// Statistics of the data set.
    pub normalize: Normalize,
    /// Boxes of noise over the normalised values.
    pub random_erasing: Option<RandomErasing>,
}

impl TrainTransform {
    /// The usual crop at `img_size`: 8 to 100 % of the area, ratio 3:4 to 4:3, half of them mirrored;
    /// no further augmentation.
    pub fn new(img_size: usize) -> Self {
        Self {
            img_size,
            scale: (0.08, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            hflip: 0.5,
            auto_augment: None,
            color_jitter: 0.0,
            normalize: Normalize::IMAGENET,
            random_erasing: None,
        }
    }

    /// Decoded picture to the values that the model takes.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    /// - output: `[3, img_size, img_size]`
    pub fn apply(&self, image: &RgbImage, rng: &mut impl Rng) -> Vec<f32> {
        self.apply_framed(image, rng).0
    }

    /// [`TrainTransform::apply`] with the piece that the values show.
    pub fn apply_framed(&self, image: &RgbImage, rng: &mut impl Rng) -> (Vec<f32>, Framing) {
        let framing = self.frame(image.dimensions(), rng);
        let mut values = self.normalize.apply(&self.show(image, &framing, rng));
        if let Some(erasing) = &self.random_erasing {
            erasing.apply(&mut values, self.img_size, self.img_size, rng);
        }
        (values, framing) // [3, img_size, img_size]
    }

    /// The same without normalisation and erasing, for those who want to look at it.
    ///
    /// # Shapes
    /// - image: `[height, width, 3]`
    /// - output: `[img_size, img_size, 3]`
    pub fn apply_u8(&self, image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
        let framing = self.frame(image.dimensions(), rng);
        self.show(image, &framing, rng)
    }

    /// Draws the piece, and whether it is mirrored.
    fn frame(&self, picture: (u32, u32), rng: &mut impl Rng) -> Framing {
        let piece = self.random_crop(picture, rng);
        Framing { picture, piece, flipped: rng.random_bool(self.hflip) }
    }

    /// The piece as a square, changed in colour and place.
    fn show(&self, image: &RgbImage, framing: &Framing, rng: &mut impl Rng) -> RgbImage {
        assert!(self.img_size > 0, "TrainTransform: expected a positive img_size, got: 0");
        let [left, top, width, height] = framing.piece;
        // As if cropped before resizing, as torchvision does: the kernels must not see beyond the piece.
        let columns = Axis::whole(left..left + width, self.img_size as u32);
        let rows = Axis::whole(top..top + height, self.img_size as u32);
        let mut picture = resize_shown(image, &columns, &rows, Filter::Bicubic);
        if framing.flipped {
            flip_horizontal_in_place(&mut picture);
        }
        match &self.auto_augment {
            Some(augment) => augment.apply(picture, self.normalize.mean_color(), rng),
            None if self.color_jitter > 0.0 => color_jitter(picture, self.color_jitter, rng),
            None => picture,
        }
    }

    /// Draws the piece to keep, as `[left, top, width, height]`.
    ///
    /// The ratio is drawn on a logarithmic scale, so that 3:4 is as likely as 4:3. After ten pieces
    /// that do not fit, the largest centred piece within the ratio is taken.
    pub fn random_crop(&self, (width, height): (u32, u32), rng: &mut impl Rng) -> [u32; 4] {
        const ATTEMPTS: usize = 10;
        let area = f64::from(width) * f64::from(height);
        for _ in 0..ATTEMPTS {
            let target_area = area * rng.random_range(self.scale.0..=self.scale.1);
            let ratio = rng.random_range(self.ratio.0.ln()..=self.ratio.1.ln()).exp();
            let crop_width = (target_area * ratio).sqrt().round_ties_even() as u32;
            let crop_height = (target_area / ratio).sqrt().round_ties_even() as u32;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = rng.random_range(0..=height - crop_height);
                let left = rng.random_range(0..=width - crop_width);
                return [left, top, crop_width, crop_height];
            }
        }
        let picture_ratio = f64::from(width) / f64::from(height);
        let ratio = picture_ratio.clamp(self.ratio.0, self.ratio.1);
        let crop_width = if picture_ratio > ratio {
            (f64::from(height) * ratio).round_ties_even() as u32
        } else {
            width
        };
        let crop_height = if picture_ratio < ratio {
            (f64::from(width) / ratio).round_ties_even() as u32
        } else {
            height
        };
        let (crop_width, crop_height) = (crop_width.clamp(1, width), crop_height.clamp(1, height));
        [(width - crop_width) / 2, (height - crop_height) / 2, crop_width, crop_height]
    }
}

/// torchvision's centre crop along one axis: what is shown, and the padding in front of it.
///
/// Half pixels round to even; a side shorter than the crop is shown whole and padded with black.
fn centre_crop(source_size: u32, size: u32, img_size: u32) -> (Axis, u32) {
    let axis = Axis::whole(0..source_size, size);
    if size < img_size {
        return (axis, (img_size - size) / 2);
    }
    let start = (f64::from(size - img_size) / 2.0).round_ties_even() as u32;
    (Axis { shown: start..start + img_size, ..axis }, 0)
}

/// Width and height with the shorter side at `short_side`; torchvision truncates the longer one.
fn resized_size((width, height): (u32, u32), short_side: f64) -> [u32; 2] {
    let long_side =
        |long: u32, short: u32| (short_side * f64::from(long) / f64::from(short)) as u32;
    if width <= height {
        [short_side as u32, long_side(height, width)]
    } else {
        [long_side(width, height), short_side as u32]
    }
}
