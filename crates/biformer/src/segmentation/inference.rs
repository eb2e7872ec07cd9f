//! From a picture of any size to a class for each of its pixels: whole or in windows, at one size or at
//! several, mirrored besides or not.
//!
//! As MMSegmentation does it: scores are resized to what the model saw, averaged over windows, resized to
//! the picture, turned into probabilities and averaged over sizes and mirror images. All of that happens
//! a band of rows at a time, so that memory is bounded for any number of classes and pixels.

use burn::tensor::Device;
use image::imageops::flip_horizontal;
use rayon::prelude::*;

use super::score_rows::{Resized, ScoreRows};
use super::windows::{Model, Slide, Windows};
use crate::data::segmentation::{SegMap, TestResize};
use crate::data::{MAX_PIXELS, RgbImage};
use crate::{Error, Result};

/// How a picture is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// Size of the picture before the model.
    pub resize: TestResize,
    /// Multiples of that size; `[1.0]` is plain inference.
    pub ratios: Vec<f64>,
    /// Whether mirror images are looked at too.
    pub flip: bool,
    /// Windows; without them the picture is seen whole.
    pub slide: Option<Slide>,
}

impl Inference {
    /// The picture once, whole.
    pub fn single_scale(resize: TestResize) -> Self {
        Self { resize, ratios: vec![1.0], flip: false, slide: None }
    }

    /// The paper's multi-scale test: six sizes, each mirrored too.
    pub fn multi_scale(resize: TestResize) -> Self {
        Self {
            ratios: vec![0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
            flip: true,
            ..Self::single_scale(resize)
        }
    }

    /// # Errors
    /// [`Error::Option`] with what is out of its range.
    pub fn check(&self) -> Result<()> {
        if self.ratios.is_empty() || !self.ratios.iter().all(|ratio| (0.01..=100.0).contains(ratio))
        {
            return Err(Error::option("ratios", "expected one or more, from 0.01 to 100"));
        }
        if self.resize.img_scale.contains(&0) {
            return Err(Error::option("img_scale", "expected two positive sides"));
        }
        match self.slide {
            Some(Slide { crop_size: 0, .. }) => {
                Err(Error::option("crop_size", "expected a positive side, found 0"))
            }
            Some(Slide { crop_size, stride }) if stride == 0 || stride > crop_size => {
                let reason = format!("expected 1 to the crop size {crop_size}, found {stride}");
                Err(Error::option("stride", reason))
            }
            _ => Ok(()),
        }
    }

    /// Whether memory suffices for what the model would be given.
    fn check_sizes(&self, image: &RgbImage) -> Result<()> {
        let sizes = self.ratios.iter().map(|&ratio| self.resize.size(image.dimensions(), ratio));
        let looks = 1 + u64::from(self.flip);
        let mut all = 0;
        for (width, height) in sizes {
            let pixels = u64::from(width) * u64::from(height);
            all += looks * pixels;
            let window = match self.slide {
                Some(slide) => pixels.min((slide.crop_size as u64).saturating_pow(2)),
                None => pixels,
            };
            if window > MAX_WINDOW_PIXELS {
                let reason = format!(
                    "the model would be given {window} pixels of {width}x{height} at once, the limit is \
                     {MAX_WINDOW_PIXELS}; lower the scale, or slide a window of at most 2048"
                );
                return Err(Error::option("img_scale", reason));
            }
        }
        if all > MAX_PIXELS {
            let reason = format!(
                "the picture would have {all} pixels in all its sizes, the limit is {MAX_PIXELS}; lower \
                 the scale"
            );
            return Err(Error::option("img_scale", reason));
        }
        Ok(())
    }
}

/// Most pixels that a model is given at once, 2048 x 2048: more would ask for too much memory.
pub const MAX_WINDOW_PIXELS: u64 = 1 << 22;

/// Scores that bands hold together, unless single rows hold more.
const BAND: usize = 1 << 24;

/// The class of each pixel of `image`. The first of several classes with the same score wins.
///
/// `model` is given normalised pictures of one size or another and may answer at any stride.
///
/// # Shapes
/// - image: `[height, width, 3]`
/// - model: `[1, 3, _, _]` to `[1, classes, _, _]`
/// - output: `[height, width]`
///
/// # Errors
/// [`Error::Option`] if an option is out of its range, the picture would be larger than
/// [`MAX_WINDOW_PIXELS`] for the model (in windows, [`MAX_PIXELS`]), or the scores of the model are no
/// numbers or of more than 255 classes.
pub fn segment(
    model: &Model<'_>,
    image: &RgbImage,
    options: &Inference,
    device: &Device,
) -> Result<SegMap> {
    options.check()?;
    options.check_sizes(image)?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let look = |picture| -> Result<_> {
        let windows = Windows::new(model, picture, options.slide, device)?;
        Ok(Resized::new(windows, [height, width]))
    };
    let mut looks = Vec::new(); // and whether each is mirrored
    for &ratio in &options.ratios {
        let picture = options.resize.apply(image, ratio);
        if options.flip {
            looks.push((look(flip_horizontal(&picture))?, true));
        }
        looks.push((look(picture)?, false));
    }
    let classes = looks[0].0.classes();
    if classes > usize::from(u8::MAX) {
        return Err(Error::option("model", format!("tells {classes} classes, 255 are the limit")));
    }
    let row_scores: usize = looks.iter().map(|(look, _)| look.row_cost()).sum();
    let band_height = (BAND / row_scores).max(1);
    let mut map = SegMap::new(image.width(), image.height());
    for (band, output) in map.chunks_mut(band_height * width).enumerate() {
        let top = band * band_height;
        let rows = top..height.min(top + band_height);
        let scores = looks.iter_mut().map(|(look, is_mirrored)| {
            Ok((look.rows(rows.clone())?, *is_mirrored)) // [rows, classes, width]
        });
        let scores: Vec<(Vec<f32>, bool)> = scores.collect::<Result<_>>()?;
        output.par_chunks_exact_mut(width).enumerate().for_each(|(row, output)| {
            let length = classes * width;
            let line = row * length..(row + 1) * length;
            match scores.as_slice() {
                [(scores, false)] => write_best(&scores[line], output),
                _ => {
                    let mut sum = vec![0.0; length];
                    for (scores, is_mirrored) in &scores {
                        add_probabilities(&scores[line.clone()], *is_mirrored, width, &mut sum);
                    }
                    write_best(&sum, output);
                }
            }
        });
    }
    Ok(map)
}

/// Adds the softmax of a row, turned back if the row is mirrored.
///
/// # Shapes
/// - line, sum: `[classes, width]`
fn add_probabilities(line: &[f32], mirrored: bool, width: usize, sum: &mut [f32]) {
    let mut highest = vec![f32::NEG_INFINITY; width];
    for scores in line.chunks_exact(width) {
        for (highest, &score) in highest.iter_mut().zip(scores) {
            *highest = highest.max(score);
        }
    }
    let mut total = vec![0.0; width];
    let mut powers = line.to_vec();
    for powers in powers.chunks_exact_mut(width) {
        for ((power, total), highest) in powers.iter_mut().zip(&mut total).zip(&highest) {
            *power = (*power - highest).exp();
            *total += *power;
        }
    }
    for (sums, powers) in sum.chunks_exact_mut(width).zip(powers.chunks_exact(width)) {
        for (x, sum) in sums.iter_mut().enumerate() {
            let from = if mirrored { width - 1 - x } else { x };
            *sum += powers[from] / total[from];
        }
    }
}

/// The class with the highest score of each pixel of a row.
///
/// # Shapes
/// - scores: `[classes, width]`
/// - output: `[width]`
fn write_best(scores: &[f32], output: &mut [u8]) {
    let (first, others) = scores.split_at(output.len());
    let mut highest = first.to_vec();
    output.fill(0);
    for (class, scores) in (1..).zip(others.chunks_exact(output.len())) {
        for ((best, highest), &score) in output.iter_mut().zip(&mut highest).zip(scores) {
            if score > *highest {
                (*best, *highest) = (class, score);
            }
        }
    }
}
