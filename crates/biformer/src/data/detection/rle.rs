//! Masks as lengths of runs, column by column: COCO's run-length encoding (RLE).

use image::{GrayImage, Luma};
use serde::{Deserialize, Serialize};

use super::rle_text::RleFile;

/// One byte a pixel: 1 where the mask is, else 0.
pub type Bitmap = GrayImage;

/// A mask as lengths of runs down the columns, the first of them outside of the mask.
///
/// In files it is `{"size": [height, width], "counts": …}`, with the lengths as a list or, shorter, as
/// text; it is written as text.
///
/// ```
/// use biformer::data::detection::{Bitmap, Rle};
///
/// let bitmap = Bitmap::from_raw(3, 2, vec![0, 1, 1, 0, 1, 0]).unwrap();
/// let mask = Rle::encode(&bitmap);
/// assert_eq!((mask.counts(), mask.area()), ([2, 3, 1].as_slice(), 3));
/// assert_eq!(mask.decode(), bitmap);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RleFile", into = "RleFile")]
pub struct Rle {
    size: [u32; 2],
    counts: Vec<u32>,
}

impl Rle {
    /// A mask from its runs; `size` is height and width, and `counts` add up to their product.
    pub(super) fn from_counts(size: [u32; 2], counts: Vec<u32>) -> Result<Self, String> {
        let [height, width] = size.map(u64::from);
        let pixels = counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        if pixels != height * width || u32::try_from(pixels).is_err() {
            return Err(format!(
                "runs of {pixels} pixels, expected {height} x {width} as its `size` says"
            ));
        }
        Ok(Self { size, counts })
    }

    /// A mask from the pixels, counted down the columns, where it begins or ends, in order.
    pub(super) fn from_borders(size: [u32; 2], borders: impl IntoIterator<Item = u32>) -> Self {
        let pixels = size[0] * size[1];
        let (mut counts, mut last) = (Vec::new(), 0);
        for border in borders {
            match counts.last() {
                // Two at one place cancel each other: the run before goes on.
                Some(run) if border == last => {
                    last -= run;
                    counts.pop();
                }
                _ => {
                    counts.push(border - last);
                    last = border;
                }
            }
        }
        if last < pixels || counts.is_empty() {
            counts.push(pixels - last);
        }
        Self { size, counts }
    }

    /// Nothing.
    pub fn empty(size: [u32; 2]) -> Self {
        Self::from_borders(size, [])
    }

    /// The pixels of `bitmap` that are not 0.
    ///
    /// # Shapes
    /// - bitmap: `[height, width]`
    pub fn encode(bitmap: &Bitmap) -> Self {
        let (width, height) = bitmap.dimensions();
        let pixels = bitmap.as_raw();
        let (mut counts, mut run, mut inside) = (Vec::new(), 0, false);
        for column in 0..width as usize {
            for pixel in pixels.iter().skip(column).step_by(width as usize) {
                if (*pixel != 0) != inside {
                    counts.push(run);
                    (run, inside) = (0, !inside);
                }
                run += 1;
            }
        }
        counts.push(run);
        Self { size: [height, width], counts }
    }

    /// The mask as a picture of 0 and 1.
    ///
    /// # Shapes
    /// - output: `[height, width]`
    pub fn decode(&self) -> Bitmap {
        let [height, width] = self.size;
        let mut bitmap = Bitmap::new(width, height);
        for [start, end] in self.runs() {
            for place in start..end {
                bitmap.put_pixel(place / height, place % height, Luma([1]));
            }
        }
        bitmap
    }

    /// Height and width.
    pub fn size(&self) -> [u32; 2] {
        self.size
    }

    /// Lengths of the runs; those inside of the mask have odd places.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Pixels inside.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&count| u64::from(count)).sum()
    }

    /// Left, top, width and height of the smallest box with all pixels inside; zeros without a pixel.
    pub fn bounding_box(&self) -> [u32; 4] {
        let height = self.size[0];
        let (mut least, mut most) = ([u32::MAX; 2], [0; 2]);
        for [start, end] in self.runs() {
            let [first, last] = [start, end - 1].map(|place| [place / height, place % height]);
            // A run that goes on in the next column touches both edges of the picture.
            let (top, bottom) =
                if first[0] == last[0] { (first[1], last[1]) } else { (0, height - 1) };
            least = [least[0].min(first[0]), least[1].min(top)];
            most = [most[0].max(last[0]), most[1].max(bottom)];
        }
        match least[0] {
            u32::MAX => [0; 4],
            _ => [least[0], least[1], most[0] - least[0] + 1, most[1] - least[1] + 1],
        }
    }

    /// What is in one mask or the other.
    ///
    /// # Panics
    /// If they differ in size.
    pub fn union(&self, other: &Self) -> Self {
        let (mut counts, mut length, mut inside) = (Vec::new(), 0, false);
        for (run, a, b) in self.joint_runs(other) {
            if (a || b) != inside {
                counts.push(length);
                (length, inside) = (0, !inside);
            }
            length += run;
        }
        counts.push(length);
        Self { size: self.size, counts }
    }

    /// Intersection over union; of a crowd, the share of this mask that lies in it. 0 where they do not
    /// meet.
    ///
    /// # Panics
    /// If they differ in size.
    pub fn iou(&self, truth: &Self, is_crowd: bool) -> f64 {
        let both = self.joint_runs(truth).filter(|&(_, a, b)| a && b);
        let intersection: u64 = both.map(|(run, ..)| u64::from(run)).sum();
        let of = match is_crowd {
            true => self.area(),
            false => self.area() + truth.area() - intersection,
        };
        intersection as f64 / of.max(1) as f64
    }

    /// Begin and end of the runs inside, counted down the columns.
    fn runs(&self) -> impl Iterator<Item = [u32; 2]> + '_ {
        let mut end = 0;
        let runs = self.counts.iter().enumerate().map(move |(place, count)| {
            let start = end;
            end += count;
            (place % 2 == 1 && *count > 0).then_some([start, end])
        });
        runs.flatten()
    }

    /// Lengths of runs in which neither mask changes, with whether they are in the one and in the other.
    fn joint_runs<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (u32, bool, bool)> + use<'a> {
        assert_eq!(self.size, other.size, "expected masks of one size");
        let (mut places, mut left) = ([0; 2], [self, other].map(|mask| mask.counts[0]));
        let masks = [self, other];
        std::iter::from_fn(move || {
            for mask in 0..2 {
                while left[mask] == 0 {
                    places[mask] += 1;
                    left[mask] = *masks[mask].counts.get(places[mask])?;
                }
            }
            let run = left[0].min(left[1]);
            left = left.map(|left| left - run);
            Some((run, places[0] % 2 == 1, places[1] % 2 == 1))
        })
    }
}
