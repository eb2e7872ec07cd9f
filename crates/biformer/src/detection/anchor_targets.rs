//! What the anchors of a picture stand for.

use super::anchors::AnchorGenerator;
use super::assigner::{Match, MaxIouAssigner};
use super::boxes::Xyxy;
use super::ground_truth::GroundTruth;

/// What the anchors of all levels stand for; those in the padding that the batch added do not count.
///
/// # Shapes
/// - sizes: `[height, width]` of each level, in tokens
/// - output: for each level as [`AnchorGenerator::grid_anchors`]
pub fn match_anchors(
    anchors: &AnchorGenerator,
    sizes: &[[usize; 2]],
    assigner: &MaxIouAssigner,
    truth: &GroundTruth,
) -> Vec<Vec<Match>> {
    let grids = anchors.grid_anchors(sizes).concat();
    let valid = anchors.valid(sizes, truth.size.padded).concat();
    let counted: Vec<Xyxy> = grids
        .into_iter()
        .zip(&valid)
        .filter(|(_, valid)| **valid)
        .map(|(anchor, _)| anchor)
        .collect();
    let mut found = assigner.assign(&counted, &truth.boxes).matches.into_iter();
    let mut next = |&valid: &bool| match valid {
        true => found.next().expect("a match for each anchor that counts"),
        false => Match::Ignored,
    };
    let mut matches = valid.iter().map(&mut next);
    let per_level = sizes.iter().map(|[height, width]| height * width * anchors.per_token());
    per_level.map(|count| matches.by_ref().take(count).collect()).collect()
}
