//! Targets for the piece of a picture that training looks at, cut from its label map by RoIAlign (He et
//! al., *Mask R-CNN*, 2017, §3).

use super::{Framing, LabelMap};

impl LabelMap {
    /// What the annotator says of the piece: one distribution over the classes for the whole of it, then
    /// one for each cell of a grid on it, mirrored as the piece is. Each is the softmax of the scores there,
    /// smoothed as labels are.
    ///
    /// # Shapes
    /// - output: `[1 + rows * columns, num_classes]`, row-major
    pub fn targets(
        &self,
        framing: &Framing,
        grid: [usize; 2],
        num_classes: usize,
        smoothing: f64,
    ) -> Vec<f32> {
        let piece = self.cells(framing);
        let mut targets = self.align(piece, [1, 1], num_classes);
        let mut tokens = self.align(piece, grid, num_classes);
        if framing.flipped {
            let [_, columns] = grid;
            tokens = tokens
                .chunks(columns * num_classes)
                .flat_map(|row| row.chunks(num_classes).rev().flatten().copied())
                .collect();
        }
        targets.append(&mut tokens);
        targets.chunks_mut(num_classes).for_each(|scores| softmax(scores, smoothing));
        targets
    }

    /// Left, top, width and height of the piece, in cells; the middle of the first cell is 0.
    fn cells(&self, framing: &Framing) -> [f64; 4] {
        let [rows, columns] = self.grid.map(|cells| cells as f64);
        let (picture_width, picture_height) = framing.picture;
        let (x, y) = (columns / f64::from(picture_width), rows / f64::from(picture_height));
        let [left, top, width, height] = framing.piece.map(f64::from);
        [left * x - 0.5, top * y - 0.5, width * x, height * y]
    }

    /// RoIAlign: the mean score of each class over points in each bin, as dense as the cells, with
    /// 0 where a class is not kept.
    ///
    /// # Shapes
    /// - output: `[rows * columns, num_classes]`
    fn align(
        &self,
        [left, top, width, height]: [f64; 4],
        [rows, columns]: [usize; 2],
        num_classes: usize,
    ) -> Vec<f32> {
        let (bin_width, bin_height) = (width / columns as f64, height / rows as f64);
        let mut scores = vec![0.0; rows * columns * num_classes];
        for (bin, scores) in scores.chunks_mut(num_classes).enumerate() {
            let (row, column) = ((bin / columns) as f64, (bin % columns) as f64);
            let ys = points(top + row * bin_height, bin_height);
            let xs = points(left + column * bin_width, bin_width);
            let weight = 1.0 / (ys.len() * xs.len()) as f64;
            for &y in &ys {
                for &x in &xs {
                    self.add_at(y, x, weight, scores);
                }
            }
        }
        scores
    }

    /// Adds the scores at a point between cells, bilinear.
    fn add_at(&self, y: f64, x: f64, weight: f64, scores: &mut [f32]) {
        let [rows, columns] = self.grid;
        let cells = rows * columns;
        for (row, share_y) in neighbours(y, rows) {
            for (column, share_x) in neighbours(x, columns) {
                let weight = (weight * share_y * share_x) as f32;
                let cell = row * columns + column;
                for place in (cell..self.classes.len()).step_by(cells) {
                    scores[usize::from(self.classes[place])] += weight * self.scores[place];
                }
            }
        }
    }
}

/// Evenly spaced points in a bin, at least one for each cell that it covers.
fn points(start: f64, size: f64) -> Vec<f64> {
    let count = size.ceil().max(1.0);
    (0..count as usize).map(|i| start + (i as f64 + 0.5) * size / count).collect()
}

/// The cells on both sides of a point, with their shares; at the border the last one.
fn neighbours(at: f64, count: usize) -> [(usize, f64); 2] {
    let at = at.clamp(0.0, (count - 1) as f64);
    let (low, share) = (at.floor(), at.fract());
    [(low as usize, 1.0 - share), ((low as usize + 1).min(count - 1), share)]
}

/// Scores to smoothed probabilities, in place.
fn softmax(scores: &mut [f32], smoothing: f64) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let zero = (-max).exp(); // of most classes: they are kept in no cell
    for score in scores.iter_mut() {
        *score = if *score == 0.0 { zero } else { (*score - max).exp() };
    }
    let scale = (1.0 - smoothing) as f32 / scores.iter().sum::<f32>();
    let floor = (smoothing / scores.len() as f64) as f32;
    scores.iter_mut().for_each(|score| *score = *score * scale + floor);
}
