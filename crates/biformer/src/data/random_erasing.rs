//! Random Erasing (Zhong et al., 2020) as timm has it: boxes of noise over the normalised picture.

use std::ops::RangeInclusive;
use std::str::FromStr;

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Area of all boxes together, as a part of the picture.
const AREA: RangeInclusive<f64> = 0.02..=1.0 / 3.0;

/// Least height over width of a box; the greatest is the inverse.
const MIN_ASPECT: f64 = 0.3;

/// Boxes that do not fit are drawn again this often.
const ATTEMPTS: usize = 10;

/// Options of Random Erasing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomErasing {
    /// Probability that anything is erased.
    pub prob: f64,
    /// What is put in place.
    pub mode: ErasingMode,
    /// Most boxes in a picture; there is at least one.
    pub count: usize,
}

/// What an erased box is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErasingMode {
    /// Zero: the mean colour.
    Const,
    /// One colour, each channel from the normal distribution.
    Rand,
    /// A colour for each pixel, from the normal distribution.
    Pixel,
}

impl FromStr for ErasingMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "const" => Ok(Self::Const),
            "rand" => Ok(Self::Rand),
            "pixel" => Ok(Self::Pixel),
            _ => {
                let reason = format!("must be `const`, `rand` or `pixel`, got `{text}`");
                Err(Error::option("remode", reason))
            }
        }
    }
}

impl RandomErasing {
    /// Erases in place, perhaps.
    ///
    /// # Shapes
    /// - pixels: `[3, height, width]`, normalised
    pub fn apply(&self, pixels: &mut [f32], height: usize, width: usize, rng: &mut impl Rng) {
        if rng.random::<f64>() >= self.prob {
            return;
        }
        let count = rng.random_range(1..=self.count.max(1));
        for _ in 0..count {
            if let Some(erased) = draw_box(height, width, count, rng) {
                self.erase(pixels, height, width, erased, rng);
            }
        }
    }

    fn erase(
        &self,
        pixels: &mut [f32],
        height: usize,
        width: usize,
        [left, top, box_width, box_height]: [usize; 4],
        rng: &mut impl Rng,
    ) {
        for channel in pixels.chunks_exact_mut(height * width) {
            let color = match self.mode {
                ErasingMode::Rand => rng.sample(StandardNormal),
                ErasingMode::Const | ErasingMode::Pixel => 0.0,
            };
            for row in channel.chunks_exact_mut(width).skip(top).take(box_height) {
                let row = &mut row[left..left + box_width];
                match self.mode {
                    ErasingMode::Pixel => row.fill_with(|| rng.sample(StandardNormal)),
                    ErasingMode::Const | ErasingMode::Rand => row.fill(color),
                }
            }
        }
    }
}

/// One of `count` boxes, as `[left, top, width, height]`; `None` if none fits.
fn draw_box(height: usize, width: usize, count: usize, rng: &mut impl Rng) -> Option<[usize; 4]> {
    let area = (height * width) as f64 / count as f64;
    let log_aspect = MIN_ASPECT.ln()..=-MIN_ASPECT.ln();
    for _ in 0..ATTEMPTS {
        let box_area = area * rng.random_range(AREA);
        let aspect = rng.random_range(log_aspect.clone()).exp();
        let box_height = (box_area * aspect).sqrt().round_ties_even() as usize;
        let box_width = (box_area / aspect).sqrt().round_ties_even() as usize;
        if box_height < height && box_width < width {
            let top = rng.random_range(0..=height - box_height);
            let left = rng.random_range(0..=width - box_width);
            return Some([left, top, box_width, box_height]);
        }
    }
    None
}
