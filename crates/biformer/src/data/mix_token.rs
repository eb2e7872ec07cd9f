//! MixToken (Jiang et al., *All Tokens Matter*, 2021, §3.2): in all pictures of a batch one box of tokens is
//! that of another picture; and the class targets that go with it.
//!
//! Picture `i` is mixed with picture `n − 1 − i`, the batch in reverse order.

use std::ops::Range;

use rand::Rng;
use rand_distr::{Beta, Distribution};

use super::mixup::{Mix, random_box};

/// Both parameters of the beta distribution of λ.
const ALPHA: f64 = 1.0;

/// Share of the annotator in the class target where its best class is the true one, and where not
/// (official code of token labeling, loss with ground truth).
const ANNOTATOR_SHARE: [f32; 2] = [0.5, 0.9];

/// A box in the grid of the last stage. It may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixToken {
    /// Rows that are another picture's.
    pub rows: Range<usize>,
    /// Columns that are another picture's.
    pub columns: Range<usize>,
}

impl MixToken {
    /// A box of about 1 − λ of the area, with λ from Beta(1, 1), anywhere and cut at the border.
    pub fn draw(grid: [usize; 2], rng: &mut impl Rng) -> Self {
        let lambda = Beta::new(ALPHA, ALPHA).map_or(1.0, |beta| beta.sample(rng));
        match random_box(grid, lambda, rng) {
            Mix::Box(rows, columns) => Self { rows, columns },
            Mix::Blend(_) => Self { rows: 0..0, columns: 0..0 },
        }
    }

    /// The share of the picture itself, λ: what the box leaves.
    pub fn lambda(&self, [rows, columns]: [usize; 2]) -> f64 {
        1.0 - (self.rows.len() * self.columns.len()) as f64 / (rows * columns) as f64
    }
}

/// Class targets of a batch: r · annotator + (1 − r) · truth, where r is 0.5 if their best classes
/// agree and 0.9 if not; then λ of each and 1 − λ of its partner.
///
/// # Shapes
/// - truth, annotator, output: `[batch, num_classes]`, row-major
pub fn token_label_targets(
    truth: &[f32],
    annotator: &[f32],
    num_classes: usize,
    lambda: f64,
) -> Vec<f32> {
    let blend = |(truth, annotator): (&[f32], &[f32])| {
        let [agree, differ] = ANNOTATOR_SHARE;
        let r = if best(truth) == best(annotator) { agree } else { differ };
        let mix = |(truth, annotator): (&f32, &f32)| r * annotator + (1.0 - r) * truth;
        truth.iter().zip(annotator).map(mix).collect::<Vec<_>>()
    };
    let targets: Vec<Vec<f32>> =
        truth.chunks(num_classes).zip(annotator.chunks(num_classes)).map(blend).collect();
    let (own, other) = (lambda as f32, (1.0 - lambda) as f32);
    let mix = |(target, partner): (&f32, &f32)| target * own + partner * other;
    targets.iter().flatten().zip(targets.iter().rev().flatten()).map(mix).collect()
}

/// The first of the greatest.
fn best(values: &[f32]) -> usize {
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}
