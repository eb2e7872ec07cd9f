//! Scores of detections in files, whoever found them.

use std::collections::HashMap;
use std::path::Path;

use super::average_precision::{AveragePrecision, FoundInstance, IouType};
use super::coco_scores::CocoScores;
use crate::data::detection::{AnnotatedImage, Category, CocoInstances, CocoResult, read_results};
use crate::{Error, Result};

/// The scores of the detections in the file `results` on the pictures of the file `annotations`, with the
/// categories.
///
/// # Errors
/// Those of [`CocoInstances::read`] and [`read_results`]; [`Error::Dataset`] if a detection is in a
/// picture or of a category that is not listed, or lacks the mask that is asked for.
pub fn evaluate_results(
    annotations: &Path,
    results: &Path,
    iou_type: IouType,
) -> Result<(CocoScores, Vec<Category>)> {
    let truth = match iou_type {
        IouType::Bbox => CocoInstances::read_boxes(annotations)?,
        IouType::Segm => CocoInstances::read(annotations)?,
    };
    let refuse = |reason| Error::dataset(results, reason);
    let found = by_picture(&truth, read_results(results)?, iou_type).map_err(refuse)?;
    let mut scores = AveragePrecision::new(truth.categories.len(), iou_type);
    for (AnnotatedImage { id, size, instances, .. }, found) in truth.images.iter().zip(&found) {
        scores.update(*id, *size, instances, found);
    }
    Ok((scores.scores(), truth.categories))
}

/// The detections of each picture.
fn by_picture(
    truth: &CocoInstances,
    results: Vec<CocoResult>,
    iou_type: IouType,
) -> Result<Vec<Vec<FoundInstance>>, String> {
    let images = truth.images.iter().enumerate();
    let images: HashMap<u64, usize> = images.map(|(place, image)| (image.id, place)).collect();
    let labels = truth.categories.iter().enumerate();
    let labels: HashMap<u64, usize> = labels.map(|(label, class)| (class.id, label)).collect();
    let mut found = vec![Vec::new(); images.len()];
    for (place, result) in results.into_iter().enumerate() {
        let CocoResult { image_id, category_id, bbox, score, segmentation: mask } = result;
        let unknown =
            |what: &str, id| format!("detection {place} is {what} {id}, which is not listed");
        let &image = images.get(&image_id).ok_or_else(|| unknown("in picture", image_id))?;
        let &label = labels.get(&category_id).ok_or_else(|| unknown("of category", category_id))?;
        let size = mask.as_ref().map(|mask| mask.size());
        if iou_type == IouType::Segm && size != Some(truth.images[image].size) {
            return Err(format!("detection {place} has no mask of the size of its picture"));
        }
        found[image].push(FoundInstance { label, bbox, score, mask });
    }
    Ok(found)
}
