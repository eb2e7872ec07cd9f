//! The numbers that COCO tells of a detector.

use std::array::from_fn;

use super::average_precision::{AREAS, RECALL_KINDS, THRESHOLDS};

/// The scores of a class; NaN where it has no truth.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScores {
    /// Truths that count.
    pub truths: u64,
    /// Detections that were looked at.
    pub detections: usize,
    /// Mean over recalls, `[area, threshold]`
    pub(super) precision: [[f64; THRESHOLDS]; AREAS.len()],
    /// `[kind, threshold]`
    pub(super) recall: [[f64; THRESHOLDS]; RECALL_KINDS.len()],
}

/// The scores of all classes.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoScores {
    /// By label.
    pub classes: Vec<ClassScores>,
}

impl CocoScores {
    /// AP: the mean over classes, thresholds and recalls; NaN without a truth, as the others.
    pub fn ap(&self) -> f64 {
        self.mean(|class| &class.precision[0])
    }

    /// AP at each threshold of IoU, 0.5 to 0.95.
    pub fn ap_by_threshold(&self) -> [f64; THRESHOLDS] {
        from_fn(|threshold| self.mean(|class| &class.precision[0][threshold..=threshold]))
    }

    /// AP at IoU 0.5.
    pub fn ap50(&self) -> f64 {
        self.ap_by_threshold()[0]
    }

    /// AP at IoU 0.75.
    pub fn ap75(&self) -> f64 {
        self.ap_by_threshold()[5]
    }

    /// AP of things below 32² pixels, below 96², and above.
    pub fn ap_by_area(&self) -> [f64; 3] {
        from_fn(|area| self.mean(|class| &class.precision[area + 1]))
    }

    /// The twelve numbers of COCO with their names, in pycocotools' order.
    pub fn named(&self) -> [(&'static str, f64); 12] {
        let [small, medium, large] = self.ap_by_area();
        let recall = |kind: usize| self.mean(|class| &class.recall[kind]);
        [
            ("AP", self.ap()),
            ("AP50", self.ap50()),
            ("AP75", self.ap75()),
            ("AP_S", small),
            ("AP_M", medium),
            ("AP_L", large),
            ("AR1", recall(0)),
            ("AR10", recall(1)),
            ("AR100", recall(2)),
            ("AR_S", recall(3)),
            ("AR_M", recall(4)),
            ("AR_L", recall(5)),
        ]
    }

    /// The mean over classes that have truths.
    fn mean(&self, of: impl Fn(&ClassScores) -> &[f64]) -> f64 {
        mean_of_numbers(self.classes.iter().flat_map(of))
    }
}

impl ClassScores {
    /// AP over all thresholds.
    pub fn ap(&self) -> f64 {
        mean_of_numbers(&self.precision[0])
    }

    /// AP at IoU 0.5.
    pub fn ap50(&self) -> f64 {
        self.precision[0][0]
    }

    /// AP at IoU 0.75.
    pub fn ap75(&self) -> f64 {
        self.precision[0][5]
    }

    /// AR of up to 100 detections in a picture.
    pub fn ar100(&self) -> f64 {
        mean_of_numbers(&self.recall[2])
    }
}

/// The mean of the values that are numbers.
fn mean_of_numbers<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    let numbers: Vec<f64> = values.into_iter().copied().filter(|value| !value.is_nan()).collect();
    numbers.iter().sum::<f64>() / numbers.len() as f64
}
