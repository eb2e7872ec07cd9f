//! Which classes pixels are taken for, and the scores that follow: mIoU, mAcc and aAcc, as
//! MMSegmentation has them.

use crate::data::segmentation::IGNORE_INDEX;
use crate::distributed::World;

/// Pixels by true and predicted class, to be added up over pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PixelConfusion {
    classes: usize,
    /// `[classes, classes]`, a row for each true class
    counts: Vec<u64>,
}

/// What was found for one class. Scores are NaN where they would be 0 / 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassIou {
    /// Pixels of the class.
    pub truth: u64,
    /// Pixels, of any class, that were taken for it.
    pub predicted: u64,
    /// Pixels of the class that were taken for it.
    pub hits: u64,
}

impl ClassIou {
    /// Intersection over union of truth and prediction.
    pub fn iou(&self) -> f64 {
        self.hits as f64 / (self.truth + self.predicted - self.hits) as f64
    }

    /// Share of the pixels of the class that were taken for it.
    pub fn accuracy(&self) -> f64 {
        self.hits as f64 / self.truth as f64
    }
}

impl PixelConfusion {
    /// Nothing seen yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Takes in a picture. Pixels whose truth is [`IGNORE_INDEX`] do not count.
    ///
    /// # Shapes
    /// - prediction, truth: `[height, width]`
    ///
    /// # Panics
    /// If they differ in size, or a class that counts is not below the number of classes.
    pub fn update(&mut self, prediction: &[u8], truth: &[u8]) {
        assert_eq!(prediction.len(), truth.len(), "expected a prediction for each label");
        for (&prediction, &truth) in prediction.iter().zip(truth) {
            if truth != IGNORE_INDEX {
                self.add(truth.into(), prediction.into(), 1);
            }
        }
    }

    /// Takes in `count` pixels.
    pub(super) fn add(&mut self, truth: usize, prediction: usize, count: u64) {
        let classes = self.classes;
        assert!(
            truth < classes && prediction < classes,
            "expected classes below {classes}, got: {prediction} for {truth}"
        );
        self.counts[truth * classes + prediction] += count;
    }

    /// Pixels of class `truth` that were taken for `prediction`.
    pub fn count(&self, truth: usize, prediction: usize) -> u64 {
        self.counts[truth * self.classes + prediction]
    }

    /// The counts of all processes together.
    pub fn over(mut self, world: &World) -> Self {
        // Exact below 2⁵³ pixels.
        let mut counts: Vec<f64> = self.counts.iter().map(|&count| count as f64).collect();
        world.sum_f64(&mut counts);
        self.counts = counts.into_iter().map(|count| count as u64).collect();
        self
    }

    /// What was found for each class, in order.
    pub fn per_class(&self) -> Vec<ClassIou> {
        let of_class = |class| ClassIou {
            truth: (0..self.classes).map(|other| self.count(class, other)).sum(),
            predicted: (0..self.classes).map(|other| self.count(other, class)).sum(),
            hits: self.count(class, class),
        };
        (0..self.classes).map(of_class).collect()
    }

    /// mIoU: the mean over the classes that occur as truth or as prediction; NaN without a pixel.
    pub fn mean_iou(&self) -> f64 {
        nan_mean(self.per_class().iter().map(ClassIou::iou))
    }

    /// mAcc: the mean over the classes that occur as truth; NaN without a pixel.
    pub fn mean_accuracy(&self) -> f64 {
        nan_mean(self.per_class().iter().map(ClassIou::accuracy))
    }

    /// aAcc: the share of all pixels that were taken for what they are; NaN without a pixel.
    pub fn pixel_accuracy(&self) -> f64 {
        let hits: u64 = (0..self.classes).map(|class| self.count(class, class)).sum();
        hits as f64 / self.counts.iter().sum::<u64>() as f64
    }
}

/// The mean of the values that are numbers.
fn nan_mean(values: impl Iterator<Item = f64>) -> f64 {
    let numbers: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        let mut confusion = PixelConfusion::new(4);
        confusion.update(&[0, 0, 1, 2, 2], &[0, 1, 1, 1, 255]);
        let classes = confusion.per_class();
        assert_eq!(classes[1], ClassIou { truth: 3, predicted: 1, hits: 1 });
        assert_eq!(classes[0].iou(), 0.5);
        assert_eq!((classes[2].iou(), classes[2].accuracy().is_nan()), (0.0, true));
        assert!(classes[3].iou().is_nan());
        assert_eq!(confusion.mean_iou(), (0.5 + 1.0 / 3.0 + 0.0) / 3.0);
        assert_eq!(confusion.mean_accuracy(), (1.0 + 1.0 / 3.0) / 2.0);
        assert_eq!(confusion.pixel_accuracy(), 0.5);
    }

    #[test]
    fn without_a_pixel_that_counts_there_is_no_score() {
        let mut confusion = PixelConfusion::new(2);
        confusion.update(&[0, 1], &[255, 255]);
        let scores = [confusion.mean_iou(), confusion.mean_accuracy(), confusion.pixel_accuracy()];
        assert!(scores.iter().all(|score| score.is_nan()));
    }
}
