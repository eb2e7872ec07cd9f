//! Scores of a picture that a model sees window by window.
//!
//! Only the windows that the wanted rows lie in are kept; those above are dropped, those below not
//! computed yet.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use image::imageops::crop_imm;

use super::score_rows::{Resized, ScoreMap, ScoreRows};
use crate::data::{Normalize, RgbImage};
use crate::{Error, Result};

/// From pictures `[batch, 3, height, width]` to scores `[batch, classes, _, _]`, of any stride.
pub type Model<'a> = dyn Fn(Tensor<4>) -> Tensor<4> + 'a;

/// Windows over a picture, that overlap if the stride is less than the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slide {
    /// Side of the square that the model sees at once; a smaller picture is seen whole.
    pub crop_size: usize,
    /// From one window to the next.
    pub stride: usize,
}

impl Slide {
    /// How many windows there are over a picture of this height and width.
    pub fn windows(self, size: [usize; 2]) -> usize {
        size.into_iter().map(|length| windows(length, self).len()).product()
    }
}

/// One window, of any size.
const WHOLE: Slide = Slide { crop_size: usize::MAX, stride: usize::MAX };

/// The mean scores of the windows in which a pixel lies, at the size of the picture.
pub(super) struct Windows<'a> {
    model: &'a Model<'a>,
    device: &'a Device,
    picture: RgbImage,
    classes: usize,
    /// Where windows begin and end, from above and from the left.
    down: Vec<Range<usize>>,
    across: Vec<Range<usize>>,
    /// Windows side by side, of those in `down` the first that are not dropped.
    kept: Vec<Vec<Resized<ScoreMap>>>,
    dropped: usize,
}

impl<'a> Windows<'a> {
    /// Computes the first row of windows.
    pub fn new(
        model: &'a Model<'a>,
        picture: RgbImage,
        slide: Option<Slide>,
        device: &'a Device,
    ) -> Result<Self> {
        let slide = slide.unwrap_or(WHOLE);
        let [down, across] =
            [picture.height(), picture.width()].map(|length| windows(length as usize, slide));
        let mut windows =
            Self { model, device, picture, classes: 0, down, across, kept: Vec::new(), dropped: 0 };
        windows.compute_next()?;
        windows.classes = windows.kept[0][0].classes();
        Ok(windows)
    }

    /// Computes the next windows side by side.
    fn compute_next(&mut self) -> Result<()> {
        let rows = &self.down[self.dropped + self.kept.len()];
        let window = |columns: &Range<usize>| {
            let [x, y] = [columns.start as u32, rows.start as u32];
            let size = [rows.len(), columns.len()];
            let crop =
                crop_imm(&self.picture, x, y, columns.len() as u32, rows.len() as u32).to_image();
            Ok(Resized::new(self.scores(&crop)?, size))
        };
        let windows = self.across.iter().map(window).collect::<Result<_>>()?;
        self.kept.push(windows);
        Ok(())
    }

    /// What the model says of a window.
    fn scores(&self, window: &RgbImage) -> Result<ScoreMap> {
        let shape = [1, 3, window.height() as usize, window.width() as usize];
        let values = TensorData::new(Normalize::IMAGENET.apply(window), shape);
        let scores = (self.model)(Tensor::from_data(values, self.device));
        let [_, classes, height, width] = scores.dims();
        let values: Vec<f32> = scores.into_data_as::<f32>().try_into_vec().expect("float32 scores");
        if !values.iter().all(|score| score.is_finite()) {
            let reason =
                "gives scores that are no numbers (NaN or infinite); its weights are broken";
            return Err(Error::option("model", reason));
        }
        Ok(ScoreMap { shape: [classes, height, width], values })
    }
}

impl ScoreRows for Windows<'_> {
    fn classes(&self) -> usize {
        self.classes
    }

    fn size(&self) -> [usize; 2] {
        [self.picture.height() as usize, self.picture.width() as usize]
    }

    fn rows(&mut self, rows: Range<usize>) -> Result<Vec<f32>> {
        let above = self.down[self.dropped..].iter().take_while(|w| w.end <= rows.start).count();
        // Where rows are left out, windows may have ended before they were needed.
        self.kept.drain(..above.min(self.kept.len()));
        self.dropped += above;
        while self.down.get(self.dropped + self.kept.len()).is_some_and(|w| w.start < rows.end) {
            self.compute_next()?;
        }

        let (classes, [_, width]) = (self.classes, self.size());
        let mut sums = vec![0.0; rows.len() * classes * width]; // [rows, classes, width]
        let mut counts = vec![0.0; rows.len()];
        for (window_rows, windows) in self.down[self.dropped..].iter().zip(&mut self.kept) {
            let shared = window_rows.start.max(rows.start)..window_rows.end.min(rows.end);
            if shared.is_empty() {
                continue;
            }
            let within = shared.start - window_rows.start..shared.end - window_rows.start;
            let lines = shared.start - rows.start..shared.end - rows.start;
            counts[lines.clone()].iter_mut().for_each(|count| *count += 1.0);
            let sums = &mut sums[lines.start * classes * width..lines.end * classes * width];
            for (columns, window) in self.across.iter().zip(windows) {
                let scores = window.rows(within.clone())?; // [rows, classes, columns]
                for (sums, scores) in
                    sums.chunks_exact_mut(width).zip(scores.chunks_exact(columns.len()))
                {
                    for (sum, score) in sums[columns.clone()].iter_mut().zip(scores) {
                        *sum += score;
                    }
                }
            }
        }
        let columns_at =
            |x: usize| self.across.iter().filter(|columns| columns.contains(&x)).count();
        let across: Vec<f32> = (0..width).map(|x| columns_at(x) as f32).collect();
        for (sums, down) in sums.chunks_exact_mut(classes * width).zip(counts) {
            for sums in sums.chunks_exact_mut(width) {
                for (sum, across) in sums.iter_mut().zip(&across) {
                    *sum /= down * across;
                }
            }
        }
        Ok(sums)
    }
}

/// Windows along one axis: each a stride after the one before, the last moved back to end with the
/// picture.
fn windows(length: usize, slide: Slide) -> Vec<Range<usize>> {
    let crop_size = slide.crop_size.min(length);
    let count = (length - crop_size).div_ceil(slide.stride) + 1;
    let window = |index: usize| {
        let end = (index * slide.stride + crop_size).min(length);
        end - crop_size..end
    };
    (0..count).map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MMSegmentation's formulas give them.
    #[test]
    fn the_last_window_ends_with_the_picture() {
        let places = |length| -> Vec<_> {
            let windows = windows(length, Slide { crop_size: 4, stride: 3 });
            windows.into_iter().map(|window| (window.start, window.end)).collect()
        };
        assert_eq!(places(3), [(0, 3)]);
        assert_eq!(places(4), [(0, 4)]);
        assert_eq!(places(5), [(0, 4), (1, 5)]);
        assert_eq!(places(7), [(0, 4), (3, 7)]);
        assert_eq!(places(8), [(0, 4), (3, 7), (4, 8)]);
    }

    /// A model of stride 2: two scores, of the upper left pixel of each four, and of where it lies in
    /// the window, so that windows disagree.
    fn model(x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let x: Vec<f32> = x.into_data().try_into_vec().unwrap();
        let size = [height.div_ceil(2), width.div_ceil(2)];
        let at = |c: usize, y: usize, x_at: usize| match c {
            0 => x[2 * y * width + 2 * x_at],
            _ => (y * 7 + x_at * 3) as f32,
        };
        let all = (0..2).flat_map(|c| (0..size[0]).map(move |y| (c, y)));
        let values: Vec<f32> = all
            .flat_map(|(c, y)| (0..size[1]).map(move |x_at| (c, y, x_at)))
            .map(|(c, y, x)| at(c, y, x))
            .collect();
        Tensor::from_data(TensorData::new(values, [1, 2, size[0], size[1]]), &Device::default())
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(21, 17, |x, y| image::Rgb([(x * 12) as u8, (y * 9) as u8, (x * y) as u8]))
    }

    fn scores(picture: RgbImage, slide: Option<Slide>, step: usize) -> Vec<f32> {
        let device = Device::default();
        let height = picture.height() as usize;
        let mut windows = Windows::new(&model, picture, slide, &device).unwrap();
        let rows = (0..height).step_by(step);
        rows.flat_map(|y| windows.rows(y..height.min(y + step)).unwrap()).collect()
    }

    #[test]
    fn a_crop_as_large_as_the_picture_is_the_whole() {
        let whole = scores(picture(), None, 17);
        for crop_size in [21, 22, 4000] {
            let slide = Some(Slide { crop_size, stride: 5 });
            assert_eq!(scores(picture(), slide, 17), whole);
            assert_eq!(scores(picture(), slide, 3), whole);
        }
    }

    #[test]
    fn overlapping_crops_are_the_mean_of_crops_one_by_one() {
        let slide = Slide { crop_size: 8, stride: 5 };
        let (height, width) = (17, 21);
        let mut sums = vec![0.0; height * 2 * width];
        let mut counts = vec![0.0; height * 2 * width];
        for down in windows(height, slide) {
            for across in windows(width, slide) {
                let crop =
                    crop_imm(&picture(), across.start as u32, down.start as u32, 8, 8).to_image();
                let alone = scores(crop, None, 8); // [8, 2, 8]
                for (place, score) in alone.into_iter().enumerate() {
                    let (y, class, x) = (place / 16, place / 8 % 2, place % 8);
                    let place = ((down.start + y) * 2 + class) * width + across.start + x;
                    sums[place] += score;
                    counts[place] += 1.0;
                }
            }
        }
        let mean: Vec<f32> = sums.iter().zip(&counts).map(|(sum, count)| sum / count).collect();
        assert!(counts.iter().any(|&count| count > 3.0));
        for step in [17, 4, 1] {
            assert_eq!(scores(picture(), Some(slide), step), mean);
        }
    }

    #[test]
    fn windows_above_are_dropped_even_if_rows_are_left_out() {
        let (slide, device) = (Some(Slide { crop_size: 4, stride: 4 }), Device::default());
        let all = scores(picture(), slide, 17);
        let mut windows = Windows::new(&model, picture(), slide, &device).unwrap();
        assert_eq!(windows.rows(13..15).unwrap(), all[13 * 42..15 * 42]);
        assert_eq!((windows.dropped, windows.kept.len()), (3, 2));
    }
}
