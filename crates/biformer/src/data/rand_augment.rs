//! RandAugment (Cubuk et al., 2020) as timm has it: a few random operations of random strength.
//!
//! An operation is chosen, perhaps left out, given a magnitude near the one of the recipe, and the
//! magnitude becomes its argument: degrees, bits, a factor. In the increasing set, which the paper's
//! recipe uses, a greater magnitude always changes the picture more.

use std::str::FromStr;

use image::{Rgb, RgbImage};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::pil_ops::*;
use super::resample::Filter;
use crate::{Error, Result};

/// Magnitudes count in tenths of the full strength.
const FULL_MAGNITUDE: f64 = 10.0;

/// Options of RandAugment, written in timm's way: `rand-m9-mstd0.5-inc1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandAugment {
    /// `n`: operations drawn for a picture, with replacement.
    pub num_ops: usize,
    /// `m`: mean magnitude.
    pub magnitude: f64,
    /// `mstd`: standard deviation of the magnitude; above 100, it is uniform from 0 to `magnitude`.
    pub magnitude_std: f64,
    /// `mmax`: magnitudes are clipped to 0 and this.
    pub magnitude_max: f64,
    /// `p`: probability that a drawn operation is applied.
    pub prob: f64,
    /// `inc`: take [`INCREASING_OPS`](Self::INCREASING_OPS) instead of [`OPS`](Self::OPS).
    pub increasing: bool,
    /// Filter of the operations that move pixels; `None` draws one each time.
    pub interpolation: Option<Filter>,
}

impl Default for RandAugment {
    /// timm's `rand`: two operations at full magnitude, each with probability one half.
    fn default() -> Self {
        Self {
            num_ops: 2,
            magnitude: FULL_MAGNITUDE,
            magnitude_std: 0.0,
            magnitude_max: FULL_MAGNITUDE,
            prob: 0.5,
            increasing: false,
            interpolation: None,
        }
    }
}

impl FromStr for RandAugment {
    type Err = Error;

    /// Reads `rand`, followed by any of `-n2`, `-m9`, `-mstd0.5`, `-mmax10`, `-p0.5`, `-inc1`.
    fn from_str(text: &str) -> Result<Self> {
        let error = |reason: String| Error::option("aa", format!("{reason}, got `{text}`"));
        let mut parts = text.split('-');
        if parts.next() != Some("rand") {
            return Err(error("must begin with `rand`, as in `rand-m9-mstd0.5-inc1`".to_owned()));
        }
        let mut options = Self::default();
        for part in parts {
            let digits = part.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(part.len());
            let (key, value) = part.split_at(digits);
            let number: f64 = value.parse().unwrap_or(f64::NAN);
            let known = match key {
                "n" => number.fract() == 0.0 && (1.0..=100.0).contains(&number),
                "m" | "mmax" => (0.0..=100.0).contains(&number),
                "mstd" => number >= 0.0,
                "p" => (0.0..=1.0).contains(&number),
                "inc" => number == 0.0 || number == 1.0,
                _ => {
                    let known = "`n`, `m`, `mstd`, `mmax`, `p` and `inc`, each with a number";
                    return Err(error(format!("`{part}` is unknown; known are {known}")));
                }
            };
            if !known {
                return Err(error(format!("`{part}`: {value:?} is no value for `{key}`")));
            }
            match key {
                "n" => options.num_ops = number as usize,
                "m" => options.magnitude = number,
                "mmax" => options.magnitude_max = number,
                "mstd" => options.magnitude_std = number,
                "p" => options.prob = number,
                _ => options.increasing = number == 1.0,
            }
        }
        Ok(options)
    }
}

impl RandAugment {
    /// What is drawn from, all alike, unless `increasing`.
    pub const OPS: [AugmentOp; 15] = {
        use AugmentOp::*;
        [
            AutoContrast,
            Equalize,
            Invert,
            Rotate,
            Posterize,
            Solarize,
            SolarizeAdd,
            Color,
            Contrast,
            Brightness,
            Sharpness,
            ShearX,
            ShearY,
            TranslateXRel,
            TranslateYRel,
        ]
    };

    /// The same, with greater changes for greater magnitudes.
    pub const INCREASING_OPS: [AugmentOp; 15] = {
        use AugmentOp::*;
        [
            AutoContrast,
            Equalize,
            Invert,
            Rotate,
            PosterizeIncreasing,
            SolarizeIncreasing,
            SolarizeAdd,
            ColorIncreasing,
            ContrastIncreasing,
            BrightnessIncreasing,
            SharpnessIncreasing,
            ShearX,
            ShearY,
            TranslateXRel,
            TranslateYRel,
        ]
    };

    /// Changes the picture at random; places that nothing is known of get the colour `fill`.
    ///
    /// # Shapes
    /// - image, output: `[height, width, 3]`
    pub fn apply(&self, image: RgbImage, fill: Rgb<u8>, rng: &mut impl Rng) -> RgbImage {
        self.draw(rng).into_iter().fold(image, |image, op| op.apply(&image, fill))
    }

    /// Draws what is done to one picture: up to `num_ops` operations.
    pub fn draw(&self, rng: &mut impl Rng) -> Vec<DrawnOp> {
        let ops = if self.increasing { Self::INCREASING_OPS } else { Self::OPS };
        let mut drawn = Vec::with_capacity(self.num_ops);
        for _ in 0..self.num_ops {
            let op = ops[rng.random_range(0..ops.len())];
            if rng.random::<f64>() >= self.prob {
                continue;
            }
            let magnitude = self.draw_magnitude(rng);
            let argument = op.argument(magnitude, rng.random());
            let either = || if rng.random() { Filter::Bilinear } else { Filter::Bicubic };
            let filter = self.interpolation.unwrap_or_else(either);
            drawn.push(DrawnOp { op, argument, filter });
        }
        drawn
    }

    /// From 0 to `magnitude_max`.
    pub fn draw_magnitude(&self, rng: &mut impl Rng) -> f64 {
        let magnitude = if self.magnitude_std > 100.0 {
            self.magnitude * rng.random::<f64>()
        } else {
            self.magnitude + self.magnitude_std * rng.sample::<f64, _>(StandardNormal)
        };
        magnitude.clamp(0.0, self.magnitude_max)
    }
}

/// An operation under timm's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the operations are those of `pil_ops`
pub enum AugmentOp {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    PosterizeIncreasing,
    Solarize,
    SolarizeIncreasing,
    SolarizeAdd,
    Color,
    ColorIncreasing,
    Contrast,
    ContrastIncreasing,
    Brightness,
    BrightnessIncreasing,
    Sharpness,
    SharpnessIncreasing,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
}

impl AugmentOp {
    /// Argument of the operation at a magnitude from 0 to 10; `None` where it takes none.
    ///
    /// Degrees, bits, a threshold, an amount, a factor, a slope, or a part of the side. Where both
    /// directions are possible, `negate` chooses.
    pub fn argument(self, magnitude: f64, negate: bool) -> Option<f64> {
        let strength = magnitude / FULL_MAGNITUDE;
        let either_way = |value: f64| if negate { -value } else { value };
        Some(match self {
            Self::AutoContrast | Self::Equalize | Self::Invert => return None,
            Self::Rotate => either_way(strength * 30.0),
            Self::Posterize => (strength * 4.0).trunc(),
            Self::PosterizeIncreasing => 4.0 - (strength * 4.0).trunc(),
            Self::Solarize => (strength * 256.0).trunc().min(256.0),
            Self::SolarizeIncreasing => 256.0 - (strength * 256.0).trunc().min(256.0),
            Self::SolarizeAdd => (strength * 110.0).trunc().min(128.0),
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness => {
                strength * 1.8 + 0.1
            }
            Self::ColorIncreasing
            | Self::ContrastIncreasing
            | Self::BrightnessIncreasing
            | Self::SharpnessIncreasing => (1.0 + either_way(strength * 0.9)).max(0.1),
            Self::ShearX | Self::ShearY => either_way(strength * 0.3),
            Self::TranslateXRel | Self::TranslateYRel => either_way(strength * 0.45),
        })
    }
}

/// An operation with all that it needs but a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnOp {
    /// What is done.
    pub op: AugmentOp,
    /// How strongly, as [`AugmentOp::argument`] says.
    pub argument: Option<f64>,
    /// How pixels between pixels are made.
    pub filter: Filter,
}

impl DrawnOp {
    /// # Shapes
    /// - image, output: `[height, width, 3]`
    pub fn apply(&self, image: &RgbImage, fill: Rgb<u8>) -> RgbImage {
        use AugmentOp::*;
        let Self { op, argument, filter } = *self;
        let argument = argument.unwrap_or_default();
        match op {
            AutoContrast => autocontrast(image),
            Equalize => equalize(image),
            Invert => invert(image),
            Rotate => rotate(image, argument, filter, fill),
            // Beyond magnitude 10 the casts saturate: no bits, threshold 0.
            Posterize | PosterizeIncreasing => posterize(image, argument as u32),
            Solarize | SolarizeIncreasing => solarize(image, argument as u32),
            SolarizeAdd => solarize_add(image, argument as u8),
            Color | ColorIncreasing => color(image, argument as f32),
            Contrast | ContrastIncreasing => contrast(image, argument as f32),
            Brightness | BrightnessIncreasing => brightness(image, argument as f32),
            Sharpness | SharpnessIncreasing => sharpness(image, argument as f32),
            ShearX => shear_x(image, argument, filter, fill),
            ShearY => shear_y(image, argument, filter, fill),
            TranslateXRel => translate_x(image, argument * f64::from(image.width()), filter, fill),
            TranslateYRel => translate_y(image, argument * f64::from(image.height()), filter, fill),
        }
    }
}
