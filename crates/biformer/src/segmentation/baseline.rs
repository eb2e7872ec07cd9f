//! What a model must beat: the most common class, everywhere.

use super::PixelConfusion;

/// The class with the most pixels.
pub fn majority_class(counts: &[u64]) -> usize {
    let most = counts.iter().max();
    counts.iter().position(|count| Some(count) == most).unwrap_or(0)
}

/// The scores of a model that says `class` of every pixel, on a set with these pixels of each class.
///
/// The counts are those of [`SegmentationFolder::count_pixels`](crate::data::segmentation::SegmentationFolder::count_pixels),
/// `class` is the [`majority_class`] of the training part.
pub fn majority_baseline(class: usize, counts: &[u64]) -> PixelConfusion {
    let mut confusion = PixelConfusion::new(counts.len());
    for (truth, &count) in counts.iter().enumerate() {
        confusion.add(truth, class, count);
    }
    confusion
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_scores_its_share_and_the_others_nothing() {
        let class = majority_class(&[3, 9, 0, 9]);
        assert_eq!(class, 1);
        let baseline = majority_baseline(class, &[10, 30, 0, 20]);
        assert_eq!(baseline.mean_iou(), 0.5 / 3.0);
        assert_eq!(baseline.mean_accuracy(), 1.0 / 3.0);
        assert_eq!(baseline.pixel_accuracy(), 0.5);
    }
}
