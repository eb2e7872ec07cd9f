//! Top-k accuracy.

use std::cmp::Ordering;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::distributed::World;

/// Counts of right answers, to be added up over batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Pictures seen.
    pub images: usize,
    /// Pictures whose class has the highest score.
    pub top1_hits: usize,
    /// Pictures whose class is among the five highest scores.
    pub top5_hits: usize,
}

impl Accuracy {
    /// Takes in one batch.
    ///
    /// # Shapes
    /// - logits: `[batch, num_classes]`, row-major
    /// - targets: `[batch]`
    pub fn update(&mut self, logits: &[f32], targets: &[usize]) {
        if targets.is_empty() {
            return;
        }
        for (row, &target) in logits.chunks(logits.len() / targets.len()).zip(targets) {
            // Ties and NaN count against the model: a constant output must not score.
            let ahead = row.iter().enumerate().filter(|&(class, score)| {
                class != target && score.partial_cmp(&row[target]) != Some(Ordering::Less)
            });
            let rank = ahead.count();
            self.images += 1;
            self.top1_hits += usize::from(rank < 1);
            self.top5_hits += usize::from(rank < 5);
        }
    }

    /// Takes in one batch with soft targets: the class is the one of most weight.
    ///
    /// # Shapes
    /// - logits, targets: `[batch, num_classes]`
    pub fn update_soft(&mut self, logits: Tensor<2>, targets: Tensor<2>) {
        let [_, num_classes] = targets.dims();
        let values = |tensor: Tensor<2>| -> Vec<f32> {
            tensor.into_data_as::<f32>().try_into_vec().expect("float32 values")
        };
        let classes: Vec<usize> = values(targets).chunks(num_classes).map(heaviest).collect();
        self.update(&values(logits), &classes);
    }

    /// Takes in other counts.
    pub fn add(&mut self, other: Self) {
        self.images += other.images;
        self.top1_hits += other.top1_hits;
        self.top5_hits += other.top5_hits;
    }

    /// The counts of all processes together.
    pub fn over(self, world: &World) -> Self {
        let counts = [self.images, self.top1_hits, self.top5_hits];
        let [images, top1_hits, top5_hits] = world.count(counts);
        Self { images, top1_hits, top5_hits }
    }

    /// Share of pictures whose class has the highest score, in `[0, 1]`.
    pub fn top1(&self) -> f64 {
        self.top1_hits as f64 / self.images.max(1) as f64
    }

    /// Share of pictures whose class is among the five highest scores, in `[0, 1]`.
    pub fn top5(&self) -> f64 {
        self.top5_hits as f64 / self.images.max(1) as f64
    }
}

/// The first of the greatest weights.
fn heaviest(weights: &[f32]) -> usize {
    (0..weights.len()).rev().max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_ranks() {
        let mut accuracy = Accuracy::default();
        let logits = [0.1, 0.9, 0.0, -1.0, -2.0, -3.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0];
        accuracy.update(&logits, &[1, 5]);
        assert_eq!((accuracy.images, accuracy.top1_hits, accuracy.top5_hits), (2, 1, 1));
        assert_eq!((accuracy.top1(), accuracy.top5()), (0.5, 0.5));
    }

    #[test]
    fn constant_and_nan_scores_are_no_hits() {
        let mut accuracy = Accuracy::default();
        accuracy.update(&[0.0; 12], &[0, 3]);
        accuracy.update(&[f32::NAN; 6], &[2]);
        assert_eq!((accuracy.top1_hits, accuracy.top5_hits), (0, 0));
    }
}
