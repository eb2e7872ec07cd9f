//! Anchors: the boxes that detections are told relative to, at each token of each level (mmdetection's
//! `AnchorGenerator`).

use super::boxes::Xyxy;

/// Sizes and shapes of the anchors around a token.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorGenerator {
    /// Pixels along a token of each level, finest first.
    pub strides: Vec<usize>,
    /// Height over width.
    pub ratios: Vec<f32>,
    /// Root of the area over the stride.
    pub scales: Vec<f32>,
}

impl AnchorGenerator {
    /// RetinaNet's: three scales an octave from 4 on, levels P3–P7.
    pub fn retinanet() -> Self {
        let octave = |i: i32| 4.0 * 2f64.powf(f64::from(i) / 3.0);
        Self {
            strides: vec![8, 16, 32, 64, 128],
            ratios: vec![0.5, 1.0, 2.0],
            scales: (0..3).map(|i| octave(i) as f32).collect(),
        }
    }

    /// Those of a region proposal network: one scale, 8, levels P2–P6.
    pub fn rpn() -> Self {
        Self { strides: vec![4, 8, 16, 32, 64], ratios: vec![0.5, 1.0, 2.0], scales: vec![8.0] }
    }

    /// Anchors of a token, the same for every level.
    pub fn per_token(&self) -> usize {
        self.ratios.len() * self.scales.len()
    }

    /// The anchors of a token at the origin of `level`: all scales of the first ratio, then of the next.
    pub fn base_anchors(&self, level: usize) -> Vec<Xyxy> {
        let stride = self.strides[level] as f32;
        let shapes = self.ratios.iter().flat_map(|&ratio| {
            let tall = ratio.sqrt();
            self.scales.iter().map(move |&scale| [stride / tall * scale, stride * tall * scale])
        });
        let centred =
            |[width, height]: [f32; 2]| [-0.5 * width, -0.5 * height, 0.5 * width, 0.5 * height];
        shapes.map(centred).collect()
    }

    /// The anchors of every level whose map has `sizes`: row by row, token by token, those of a token next to
    /// each other, as channels-last maps have their scores. They may reach out of the picture.
    ///
    /// # Shapes
    /// - sizes: `[height, width]` of each level, in tokens
    /// - output: for each level `[height · width · per_token]`
    ///
    /// # Panics
    /// If there are not as many sizes as levels.
    pub fn grid_anchors(&self, sizes: &[[usize; 2]]) -> Vec<Vec<Xyxy>> {
        let (found, expected) = (sizes.len(), self.strides.len());
        assert_eq!(found, expected, "anchors: got {found} levels, expected {expected}");
        let level =
            |(level, &size)| grid(&self.base_anchors(level), [self.strides[level]; 2], size);
        sizes.iter().enumerate().map(level).collect()
    }

    /// Whether the token of each of the [`grid_anchors`](Self::grid_anchors) begins in the picture, padded to
    /// `padded` pixels: in a batch, pictures may be padded further than each alone would be.
    ///
    /// # Shapes
    /// - sizes, padded: `[height, width]`
    /// - output: as `grid_anchors`
    pub fn valid(&self, sizes: &[[usize; 2]], padded: [usize; 2]) -> Vec<Vec<bool>> {
        let level = |(&[height, width], &stride): (&[usize; 2], &usize)| {
            let [rows, columns] = padded.map(|pixels| pixels.div_ceil(stride));
            let tokens = (0..height * width).map(|i| i / width < rows && i % width < columns);
            tokens.flat_map(|is_valid| std::iter::repeat_n(is_valid, self.per_token())).collect()
        };
        sizes.iter().zip(&self.strides).map(level).collect()
    }
}

/// `base` moved to every token of a map.
///
/// # Shapes
/// - strides: pixels along a token, `[down, across]`
/// - size: `[height, width]`
/// - output: `[height · width · base.len()]`
pub fn grid(base: &[Xyxy], strides: [usize; 2], [height, width]: [usize; 2]) -> Vec<Xyxy> {
    let tokens = (0..height).flat_map(|row| (0..width).map(move |column| [row, column]));
    let moved = |[row, column]: [usize; 2]| {
        let (y, x) = ((row * strides[0]) as f32, (column * strides[1]) as f32);
        base.iter().map(move |&[x1, y1, x2, y2]| [x1 + x, y1 + y, x2 + x, y2 + y])
    };
    tokens.flat_map(moved).collect()
}
