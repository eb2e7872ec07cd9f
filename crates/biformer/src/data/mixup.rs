//! Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) over a batch, and the soft targets that
//! go with them, as timm's `Mixup` has them.
//!
//! Picture `i` is mixed with picture `n − 1 − i`, the batch in reverse order.

use std::ops::Range;
use std::str::FromStr;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Tells these numbers from those of pictures.
const STREAM: u64 = u64::MAX;

/// Options of Mixup and CutMix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixup {
    /// Both parameters of the beta distribution of Mixup's λ; 0 turns Mixup off.
    pub mixup_alpha: f64,
    /// Both parameters of the beta distribution of CutMix's λ; 0 turns CutMix off.
    pub cutmix_alpha: f64,
    /// Probability that anything is mixed.
    pub prob: f64,
    /// Probability of CutMix where both are on.
    pub switch_prob: f64,
    /// What shares a λ.
    pub mode: MixupMode,
}

/// What shares one λ, and one choice between Mixup and CutMix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MixupMode {
    /// The whole batch.
    Batch,
    /// Two pictures that are mixed with each other.
    Pair,
    /// Nothing: each picture has its own.
    Elem,
}

impl FromStr for MixupMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "batch" => Ok(Self::Batch),
            "pair" => Ok(Self::Pair),
            "elem" => Ok(Self::Elem),
            _ => {
                let reason = format!("must be `batch`, `pair` or `elem`, got `{text}`");
                Err(Error::option("mixup_mode", reason))
            }
        }
    }
}

/// How one picture is mixed with its partner.
#[derive(Clone, Debug, PartialEq)]
pub enum Mix {
    /// λ of the picture and 1 − λ of the partner, pixel by pixel.
    Blend(f64),
    /// A box of the partner, in rows and columns.
    Box(Range<usize>, Range<usize>),
}

impl Mixup {
    /// Whether anything is ever mixed.
    pub fn is_active(&self) -> bool {
        self.prob > 0.0 && (self.mixup_alpha > 0.0 || self.cutmix_alpha > 0.0)
    }

    /// How each of `count` pictures is mixed.
    pub fn draw(&self, count: usize, size: [usize; 2], rng: &mut impl Rng) -> Vec<Mix> {
        match self.mode {
            MixupMode::Batch => vec![self.draw_one(size, rng); count],
            MixupMode::Elem => (0..count).map(|_| self.draw_one(size, rng)).collect(),
            MixupMode::Pair => {
                let half: Vec<_> =
                    (0..count.div_ceil(2)).map(|_| self.draw_one(size, rng)).collect();
                (0..count).map(|i| half[i.min(count - 1 - i)].clone()).collect()
            }
        }
    }

    fn draw_one(&self, size: [usize; 2], rng: &mut impl Rng) -> Mix {
        let Self { mixup_alpha, cutmix_alpha, prob, switch_prob, .. } = *self;
        if !rng.random_bool(prob) {
            return Mix::Blend(1.0);
        }
        let is_cutmix = match (mixup_alpha > 0.0, cutmix_alpha > 0.0) {
            (true, true) => rng.random_bool(switch_prob),
            (_, cutmix) => cutmix,
        };
        let alpha = if is_cutmix { cutmix_alpha } else { mixup_alpha };
        // A beta distribution needs a positive parameter; without one nothing is mixed.
        let lambda = Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(rng));
        if is_cutmix { random_box(size, lambda, rng) } else { Mix::Blend(lambda) }
    }
}

/// A box of about 1 − `lambda` of the area, with its centre anywhere and cut at the border.
pub(super) fn random_box([height, width]: [usize; 2], lambda: f64, rng: &mut impl Rng) -> Mix {
    let ratio = (1.0 - lambda).sqrt();
    let mut along = |side: usize| {
        let half = (side as f64 * ratio) as usize / 2;
        let centre = rng.random_range(0..side);
        centre.saturating_sub(half)..(centre + half).min(side)
    };
    let rows = along(height);
    Mix::Box(rows, along(width))
}

impl Mix {
    /// The share of the picture itself, λ; of a box, what it leaves.
    pub fn lambda(&self, [height, width]: [usize; 2]) -> f64 {
        match self {
            Self::Blend(lambda) => *lambda,
            Self::Box(rows, columns) => {
                1.0 - (rows.len() * columns.len()) as f64 / (height * width) as f64
            }
        }
    }

    /// Mixes one picture with its partner.
    fn apply(&self, picture: &mut [f32], partner: &[f32], [height, width]: [usize; 2]) {
        match self {
            Self::Blend(lambda) => {
                let (own, other) = (*lambda as f32, (1.0 - lambda) as f32);
                for (value, partner) in picture.iter_mut().zip(partner) {
                    *value = *value * own + partner * other;
                }
            }
            Self::Box(rows, columns) => {
                for channel in 0..picture.len() / (height * width) {
                    for row in rows.clone() {
                        let start = (channel * height + row) * width;
                        let part = start + columns.start..start + columns.end;
                        picture[part.clone()].copy_from_slice(&partner[part]);
                    }
                }
            }
        }
    }
}

/// The source of randomness of one batch of an epoch.
pub fn mixup_rng(seed: u64, epoch: usize, batch: usize) -> StdRng {
    let numbers = [seed, epoch as u64, batch as u64, STREAM];
    let mut bytes = [0; 32];
    bytes.chunks_mut(8).zip(numbers).for_each(|(part, number)| {
        part.copy_from_slice(&number.to_le_bytes());
    });
    StdRng::from_seed(bytes)
}

/// Mixes the pictures of a batch in place, each as `mixes` says.
///
/// # Shapes
/// - pixels: `[mixes.len(), channels, height, width]`, row-major
pub fn mix_pictures(pixels: &mut [f32], mixes: &[Mix], size: [usize; 2]) {
    let count = mixes.len();
    let length = pixels.len() / count.max(1);
    for first in 0..count / 2 {
        // Both of a pair from what they were before.
        let last = count - 1 - first;
        let (front, back) = pixels.split_at_mut(last * length);
        let (picture, partner) = (&mut front[first * length..][..length], &mut back[..length]);
        let before = picture.to_vec();
        mixes[first].apply(picture, partner, size);
        mixes[last].apply(partner, &before, size);
    }
}

/// Soft targets: smoothed one-hot vectors, mixed as the pictures are. The weight of the class is
/// 1 − smoothing + smoothing / classes, that of all others smoothing / classes.
///
/// # Shapes
/// - labels: `[batch]`
/// - mixes: `[batch]`, or empty if nothing is mixed
/// - output: `[batch, num_classes]`, row-major
pub fn soft_targets(
    labels: &[usize],
    num_classes: usize,
    smoothing: f64,
    mixes: &[Mix],
    size: [usize; 2],
) -> Vec<f32> {
    let off = smoothing / num_classes as f64;
    let on = 1.0 - smoothing + off;
    let mut targets = vec![off as f32; labels.len() * num_classes];
    for (i, row) in targets.chunks_mut(num_classes).enumerate() {
        let (label, partner) = (labels[i], labels[labels.len() - 1 - i]);
        let lambda = mixes.get(i).map_or(1.0, |mix| mix.lambda(size));
        if label == partner {
            row[label] = on as f32;
        } else {
            row[label] = (on * lambda + off * (1.0 - lambda)) as f32;
            row[partner] = (off * lambda + on * (1.0 - lambda)) as f32;
        }
    }
    targets
}
