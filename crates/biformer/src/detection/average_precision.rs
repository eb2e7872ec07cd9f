//! Average precision and recall as COCO has them: for boxes or masks, at ten thresholds of IoU, by area.
//!
//! In each picture and class, detections by falling score take the truth that they meet best and that is
//! still free. Those that took one are right, the others are wrong; over all pictures, again by falling
//! score, this gives precision and recall. What meets crowds, or truths of other areas, does not count.
//! The numbers are those of pycocotools, but for a truth with id 0, which is never found there.

use std::array::from_fn;

use super::coco_scores::{ClassScores, CocoScores};
use super::matching::{Overlaps, match_greedily};
use super::precision_recall::{Curve, evenly};
use crate::data::detection::{Instance, Rle};
use crate::distributed::World;

/// Thresholds of IoU: 0.5, 0.55 … 0.95.
pub(super) const THRESHOLDS: usize = 10;
/// Least and greatest area in pixels: all, small, medium, large.
pub(super) const AREAS: [[f64; 2]; 4] =
    [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];
/// Detections of a class in a picture that count.
const MAX_DETECTIONS: usize = 100;
/// Which recalls are told: a place in [`AREAS`], and how many detections count.
pub(super) const RECALL_KINDS: [(usize, usize); 6] =
    [(0, 1), (0, 10), (0, 100), (1, 100), (2, 100), (3, 100)];

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IouType {
    /// Boxes.
    Bbox,
    /// Masks.
    Segm,
}

/// A thing that was found in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundInstance {
    /// Its class.
    pub label: usize,
    /// Left, top, width and height in pixels.
    pub bbox: [f64; 4],
    /// How sure the detector is; only the order counts.
    pub score: f64,
    /// Its pixels, of the size of the picture.
    pub mask: Option<Rle>,
}

/// What was found in pictures, to be added up.
#[derive(Debug, Clone, PartialEq)]
pub struct AveragePrecision {
    iou_type: IouType,
    classes: Vec<ClassRecord>,
}

/// What there is of a class, and what was found.
#[derive(Debug, Clone, Default, PartialEq)]
struct ClassRecord {
    /// Truths that count, by area.
    truths: [u64; AREAS.len()],
    detections: Vec<Verdict>,
}

/// What became of a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Verdict {
    score: f64,
    image: u64,
    /// Place among those of its class in its picture.
    rank: usize,
    /// By area: a bit for each threshold at which a truth was taken.
    matched: [u16; AREAS.len()],
    /// By area: a bit for each threshold at which it does not count.
    ignored: [u16; AREAS.len()],
}

impl AveragePrecision {
    /// Nothing seen yet.
    pub fn new(classes: usize, iou_type: IouType) -> Self {
        Self { iou_type, classes: vec![ClassRecord::default(); classes] }
    }

    /// Takes in a picture: its id, its height and width, what is in it and what was found. The order of
    /// the pictures does not matter.
    ///
    /// # Panics
    /// If a label is not below the number of classes, or a mask is asked for that is missing or has
    /// another size.
    pub fn update(
        &mut self,
        image: u64,
        size: [u32; 2],
        truths: &[Instance],
        found: &[FoundInstance],
    ) {
        for (label, record) in self.classes.iter_mut().enumerate() {
            let truths: Vec<_> = truths.iter().filter(|truth| truth.label == label).collect();
            let mut found: Vec<_> = found.iter().filter(|found| found.label == label).collect();
            // Stable: of equal scores the first comes first.
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(MAX_DETECTIONS);
            if !truths.is_empty() || !found.is_empty() {
                let overlaps = Overlaps::new(self.iou_type, size, &truths, &found);
                record.add(image, &truths, &found, &overlaps);
            }
        }
        let highest = truths.iter().map(|t| t.label).chain(found.iter().map(|f| f.label)).max();
        let classes = self.classes.len();
        assert!(highest.is_none_or(|label| label < classes), "expected labels below {classes}");
    }

    /// What all processes found together.
    pub fn over(self, world: &World) -> Self {
        let gather = |record: ClassRecord| {
            let mut truths = record.truths.map(|count| count as f64);
            world.sum_f64(&mut truths);
            let mut numbers = vec![0.0; world.size()];
            numbers[world.rank()] = record.detections.len() as f64;
            world.sum_f64(&mut numbers);
            let before = numbers[..world.rank()].iter().sum::<f64>() as usize;
            let all = numbers.iter().sum::<f64>() as usize;
            // Each process fills its part; the sum has all.
            let mut packed = vec![[0.0; PACKED]; all];
            for (place, verdict) in record.detections.iter().enumerate() {
                packed[before + place] = verdict.pack();
            }
            world.sum_f64(packed.as_flattened_mut());
            ClassRecord {
                truths: truths.map(|count| count as u64),
                detections: packed.into_iter().map(Verdict::unpack).collect(),
            }
        };
        Self { classes: self.classes.into_iter().map(gather).collect(), ..self }
    }

    /// The scores of what was seen.
    pub fn scores(&self) -> CocoScores {
        CocoScores { classes: self.classes.iter().map(ClassRecord::scores).collect() }
    }
}

impl ClassRecord {
    fn add(
        &mut self,
        image: u64,
        truths: &[&Instance],
        found: &[&FoundInstance],
        overlaps: &Overlaps,
    ) {
        let mut verdicts: Vec<_> = found
            .iter()
            .enumerate()
            .map(|(rank, found)| Verdict {
                score: found.score,
                image,
                rank,
                matched: [0; AREAS.len()],
                ignored: [0; AREAS.len()],
            })
            .collect();
        for (place, [least, greatest]) in AREAS.into_iter().enumerate() {
            let is_outside = |area: f64| area < least || area > greatest;
            let ignored: Vec<bool> =
                truths.iter().map(|truth| truth.is_crowd || is_outside(truth.area)).collect();
            self.truths[place] += ignored.iter().filter(|&&ignored| !ignored).count() as u64;
            for threshold in 0..THRESHOLDS {
                let bit = 1 << threshold;
                let taken = match_greedily(overlaps, &ignored, iou_threshold(threshold));
                for ((verdict, taken), &area) in verdicts.iter_mut().zip(taken).zip(&overlaps.areas)
                {
                    let counts_not = taken.map_or(is_outside(area), |truth| ignored[truth]);
                    verdict.matched[place] |= if taken.is_some() { bit } else { 0 };
                    verdict.ignored[place] |= if counts_not { bit } else { 0 };
                }
            }
        }
        self.detections.append(&mut verdicts);
    }

    fn scores(&self) -> ClassScores {
        let mut ranked = self.detections.clone();
        ranked.sort_by(|a, b| {
            b.score.total_cmp(&a.score).then((a.image, a.rank).cmp(&(b.image, b.rank)))
        });
        let curve = |area: usize, threshold: usize, max_detections: usize| {
            let bit = 1 << threshold;
            let counts = ranked.iter().filter(|verdict| {
                verdict.rank < max_detections && verdict.ignored[area] & bit == 0
            });
            let hits = counts.map(|verdict| verdict.matched[area] & bit != 0).collect::<Vec<_>>();
            Curve::new(&hits, self.truths[area])
        };
        ClassScores {
            truths: self.truths[0],
            detections: self.detections.len(),
            precision: from_fn(|area| {
                from_fn(|threshold| curve(area, threshold, MAX_DETECTIONS).mean_precision())
            }),
            recall: RECALL_KINDS.map(|(area, max_detections)| {
                from_fn(|threshold| curve(area, threshold, max_detections).recall())
            }),
        }
    }
}

/// Numbers of a verdict between processes.
const PACKED: usize = 3 + 2 * AREAS.len();

impl Verdict {
    fn pack(&self) -> [f64; PACKED] {
        let mut numbers = [0.0; PACKED];
        // Ids of pictures below 2⁵³ are exact.
        numbers[..3].copy_from_slice(&[self.score, self.image as f64, self.rank as f64]);
        let bits = self.matched.iter().chain(&self.ignored);
        numbers[3..].iter_mut().zip(bits).for_each(|(number, &bits)| *number = bits.into());
        numbers
    }

    fn unpack(numbers: [f64; PACKED]) -> Self {
        Self {
            score: numbers[0],
            image: numbers[1] as u64,
            rank: numbers[2] as usize,
            matched: from_fn(|area| numbers[3 + area] as u16),
            ignored: from_fn(|area| numbers[3 + AREAS.len() + area] as u16),
        }
    }
}

/// IoU at which a truth can be taken.
fn iou_threshold(place: usize) -> f64 {
    evenly(0.5, 0.95, place, THRESHOLDS)
}
