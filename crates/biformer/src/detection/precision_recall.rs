//! Precision over recall, and where COCO reads it.

/// Recalls at which precision is read: 0, 0.01 … 1.
const RECALLS: usize = 101;

/// Precision over recall of detections by falling score.
pub(super) struct Curve {
    /// After each detection; precision is the greatest of that and all that follow.
    precision: Vec<f64>,
    recall: Vec<f64>,
    truths: u64,
}

impl Curve {
    /// `hits` says of each detection that counts whether it is right.
    pub fn new(hits: &[bool], truths: u64) -> Self {
        let (mut precision, mut recall, mut right) = (Vec::new(), Vec::new(), 0.0);
        for (seen, &hit) in (1..).zip(hits) {
            right += f64::from(u8::from(hit));
            precision.push(right / (f64::from(seen) + f64::EPSILON));
            recall.push(right / truths as f64);
        }
        for place in (1..precision.len()).rev() {
            precision[place - 1] = precision[place - 1].max(precision[place]);
        }
        Self { precision, recall, truths }
    }

    /// NaN without a truth.
    pub fn mean_precision(&self) -> f64 {
        if self.truths == 0 {
            return f64::NAN;
        }
        let at = |step: usize| {
            let reached =
                self.recall.partition_point(|&recall| recall < evenly(0.0, 1.0, step, RECALLS));
            self.precision.get(reached).copied().unwrap_or(0.0)
        };
        (0..RECALLS).map(at).sum::<f64>() / RECALLS as f64
    }

    /// NaN without a truth.
    pub fn recall(&self) -> f64 {
        match self.truths {
            0 => f64::NAN,
            _ => self.recall.last().copied().unwrap_or(0.0),
        }
    }
}

/// Number `step` of `count` from `first` to `last`, rounded as numpy's `linspace` does: a recall of 0.57
/// must reach a threshold of 0.57.
pub(super) fn evenly(first: f64, last: f64, step: usize, count: usize) -> f64 {
    match step + 1 == count {
        true => last,
        false => first + step as f64 * ((last - first) / (count - 1) as f64),
    }
}
