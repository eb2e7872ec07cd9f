//! Score maps that are read a few rows at a time, so that scores of all classes for all pixels of a large
//! picture never are in memory together.

use std::ops::Range;

use rayon::prelude::*;

use crate::Result;
use crate::data::segmentation::{Tap, lerp, taps};

/// A map of scores, read from top to bottom.
pub(super) trait ScoreRows {
    fn classes(&self) -> usize;

    /// Height and width.
    fn size(&self) -> [usize; 2];

    /// Some rows; a later call does not begin above an earlier one.
    ///
    /// # Shapes
    /// - output: `[rows.len(), classes, width]`
    fn rows(&mut self, rows: Range<usize>) -> Result<Vec<f32>>;
}

/// A map that is in memory.
pub(super) struct ScoreMap {
    /// Classes, height, width.
    pub shape: [usize; 3],
    /// `[classes, height, width]`
    pub values: Vec<f32>,
}

impl ScoreRows for ScoreMap {
    fn classes(&self) -> usize {
        self.shape[0]
    }

    fn size(&self) -> [usize; 2] {
        [self.shape[1], self.shape[2]]
    }

    fn rows(&mut self, rows: Range<usize>) -> Result<Vec<f32>> {
        let [classes, height, width] = self.shape;
        let mut output = Vec::with_capacity(rows.len() * classes * width);
        for row in rows {
            for class in 0..classes {
                let start = (class * height + row) * width;
                output.extend_from_slice(&self.values[start..start + width]);
            }
        }
        Ok(output)
    }
}

/// A map resized bilinearly, without antialiasing and with the middles of pixels at halves: PyTorch's
/// `interpolate(mode="bilinear", align_corners=False)`.
pub(super) struct Resized<R> {
    source: R,
    size: [usize; 2],
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

impl<R: ScoreRows> Resized<R> {
    pub fn new(source: R, size: [usize; 2]) -> Self {
        let [height, width] = source.size();
        let [rows, columns] =
            [(height, size[0]), (width, size[1])].map(|(from, to)| taps(from, to, 0..to).collect());
        Self { source, size, rows, columns }
    }

    /// About how many scores a row holds, with those that it is made of.
    pub fn row_cost(&self) -> usize {
        let [source_height, source_width] = self.source.size();
        let source_rows = source_height.div_ceil(self.size[0]);
        self.classes() * (self.size[1] + source_rows * source_width)
    }
}

impl<R: ScoreRows> ScoreRows for Resized<R> {
    fn classes(&self) -> usize {
        self.source.classes()
    }

    fn size(&self) -> [usize; 2] {
        self.size
    }

    fn rows(&mut self, rows: Range<usize>) -> Result<Vec<f32>> {
        if self.source.size() == self.size {
            return self.source.rows(rows);
        }
        let (classes, [_, source_width]) = (self.source.classes(), self.source.size());
        let taps = &self.rows[rows];
        let (Some(first), Some(last)) = (taps.first(), taps.last()) else { return Ok(Vec::new()) };
        let above = first.near;
        let source = self.source.rows(above..last.far + 1)?; // [rows, classes, source_width]
        let row_length = classes * source_width;
        let row = |index: usize| &source[(index - above) * row_length..][..row_length];
        let mut output = vec![0.0; taps.len() * classes * self.size[1]];
        let lines = output.par_chunks_exact_mut(classes * self.size[1]).zip(taps);
        lines.for_each(|(line, tap)| {
            let pairs = row(tap.near).iter().zip(row(tap.far));
            let blended: Vec<f32> =
                pairs.map(|(&near, &far)| lerp(near, far, tap.weight)).collect();
            for (output, blended) in
                line.chunks_exact_mut(self.size[1]).zip(blended.chunks_exact(source_width))
            {
                for (value, column) in output.iter_mut().zip(&self.columns) {
                    *value = lerp(blended[column.near], blended[column.far], column.weight);
                }
            }
        });
        Ok(output) // [rows, classes, width]
    }
}
