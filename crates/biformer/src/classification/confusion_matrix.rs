//! Which classes are taken for which, and what follows from it for each class.

use std::collections::BTreeMap;

use crate::distributed::World;

/// Pictures by true and predicted class, to be added up over batches.
///
/// Only pairs that occur are kept: it takes no more room for a thousand classes than for ten.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfusionMatrix {
    counts: BTreeMap<(usize, Option<usize>), usize>,
}

impl ConfusionMatrix {
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
            *self.counts.entry((target, winner(row))).or_default() += 1;
        }
    }

    /// Pictures of class `truth` that were taken for `prediction`; `None` stands for no answer:
    /// several classes have the highest score, or one is NaN.
    pub fn count(&self, truth: usize, prediction: Option<usize>) -> usize {
        self.counts.get(&(truth, prediction)).copied().unwrap_or_default()
    }

    /// Pairs of truth and prediction that occur, in order of the classes, and their pictures.
    pub fn counts(&self) -> impl Iterator<Item = (usize, Option<usize>, usize)> + '_ {
        self.counts.iter().map(|(&(truth, prediction), &count)| (truth, prediction, count))
    }

    /// The counts of all processes together.
    pub fn over(self, world: &World) -> Self {
        let mut lengths = vec![0.0; world.size()];
        lengths[world.rank()] = self.counts.len() as f64;
        world.sum_f64(&mut lengths);
        // Each fills its own rows, and the sum is all of them; −1 stands for no answer.
        let before: f64 = lengths[..world.rank()].iter().sum();
        let mut rows = vec![[0.0; 3]; lengths.iter().sum::<f64>() as usize];
        for (row, (truth, prediction, count)) in
            rows[before as usize..].iter_mut().zip(self.counts())
        {
            *row = [truth as f64, prediction.map_or(-1.0, |class| class as f64), count as f64];
        }
        world.sum_f64(rows.as_flattened_mut());
        let mut counts = BTreeMap::new();
        for [truth, prediction, count] in rows {
            let prediction = (prediction >= 0.0).then_some(prediction as usize);
            *counts.entry((truth as usize, prediction)).or_default() += count as usize;
        }
        Self { counts }
    }

    /// Scores of the classes that occur as truth or as prediction, in order of the classes.
    pub fn per_class(&self) -> Vec<ClassScores> {
        let mut classes: BTreeMap<usize, ClassScores> = BTreeMap::new();
        for (truth, prediction, count) in self.counts() {
            classes.entry(truth).or_default().images += count;
            if let Some(prediction) = prediction {
                let scores = classes.entry(prediction).or_default();
                scores.predicted += count;
                scores.hits += if prediction == truth { count } else { 0 };
            }
        }
        let named = |(class, scores)| ClassScores { class, ..scores };
        classes.into_iter().map(named).collect()
    }
}

/// The class that is ahead of all others, as [`Accuracy`](super::Accuracy) counts hits.
fn winner(scores: &[f32]) -> Option<usize> {
    let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]))?;
    let is_behind = |(class, score): (usize, &f32)| class == best || *score < scores[best];
    scores.iter().enumerate().all(is_behind).then_some(best)
}

/// What evaluation found for one class. Scores are those of scikit-learn, 0 where they would be
/// 0 / 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassScores {
    /// Index of the class.
    pub class: usize,
    /// Pictures of the class.
    pub images: usize,
    /// Pictures, of any class, that were taken for it.
    pub predicted: usize,
    /// Pictures of the class that were taken for it.
    pub hits: usize,
}

impl ClassScores {
    /// Share of the pictures taken for the class that are of the class.
    pub fn precision(&self) -> f64 {
        share(self.hits, self.predicted)
    }

    /// Share of the pictures of the class that were taken for it.
    pub fn recall(&self) -> f64 {
        share(self.hits, self.images)
    }

    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        share(2 * self.hits, self.images + self.predicted)
    }
}

/// Mean F1 over `classes`, scikit-learn's `f1_score(average="macro")`.
pub fn macro_f1(classes: &[ClassScores]) -> f64 {
    mean(classes.iter().map(ClassScores::f1))
}

/// Mean recall over those of `classes` that have pictures, scikit-learn's
/// `balanced_accuracy_score`.
pub fn mean_per_class_accuracy(classes: &[ClassScores]) -> f64 {
    mean(classes.iter().filter(|class| class.images > 0).map(ClassScores::recall))
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::super::Accuracy;
    use super::*;

    /// Scores that make `predicted` of three classes the winner.
    fn logits(predicted: &[usize]) -> Vec<f32> {
        predicted.iter().flat_map(|&p| (0..3).map(move |c| f32::from(c == p))).collect()
    }

    /// The numbers are those of scikit-learn 1.9 for the same labels.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let mut confusion = ConfusionMatrix::default();
        confusion.update(&logits(&[0, 0, 1]), &[0, 0, 0]);
        confusion.update(&logits(&[1, 0, 2]), &[1, 1, 1]);
        assert_eq!((confusion.count(1, Some(1)), confusion.count(1, Some(0))), (1, 1));
        let classes = confusion.per_class();
        let round = |value: f64| (value * 1e4).round() / 1e4;
        let scores = |c: &ClassScores| [c.precision(), c.recall(), c.f1()].map(round);
        let expected = [[0.6667, 0.6667, 0.6667], [0.5, 0.3333, 0.4], [0.0, 0.0, 0.0]];
        assert_eq!(classes.iter().map(scores).collect::<Vec<_>>(), expected);
        assert_eq!(round(macro_f1(&classes)), 0.3556);
        assert_eq!(round(mean_per_class_accuracy(&classes)), 0.5);
    }

    #[test]
    fn ties_and_nan_are_no_answers_as_in_the_accuracy() {
        let nan = f32::NAN;
        let rows = [[0.0, 0.0, 0.0], [nan, 1.0, 0.0], [nan, nan, nan], [1.0, 1.0, 0.0]];
        let rows = [&rows[..], &[[1.0, -0.0, 0.0], [-1.0, -0.0, 0.0], [0.0, f32::INFINITY, 1.0]]];
        let rows: Vec<f32> = rows.concat().concat();
        let (mut confusion, mut accuracy) = (ConfusionMatrix::default(), Accuracy::default());
        let targets = [0, 1, 2, 0, 0, 2, 1];
        confusion.update(&rows, &targets);
        accuracy.update(&rows, &targets);
        let hits: usize = confusion.per_class().iter().map(|class| class.hits).sum();
        assert_eq!((hits, accuracy.top1_hits), (2, 2));
        assert_eq!((confusion.count(0, None), confusion.count(2, None)), (2, 2));
        assert_eq!(confusion.per_class().iter().map(|c| c.images).sum::<usize>(), 7);
    }

    #[test]
    fn nothing_seen_and_a_single_class() {
        let mut confusion = ConfusionMatrix::default();
        confusion.update(&[], &[]);
        let nothing = confusion.per_class();
        assert_eq!((macro_f1(&nothing), mean_per_class_accuracy(&nothing)), (0.0, 0.0));
        confusion.update(&[0.5], &[0]);
        assert_eq!((confusion.per_class().len(), macro_f1(&confusion.per_class())), (1, 1.0));
    }
}
