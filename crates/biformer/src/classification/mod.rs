//! Image classification: the model with its head, loss, accuracy, evaluation and prediction.

mod accuracy;
mod annotate;
mod checkpoint;
mod class_block;
pub mod color_histogram;
mod confusion_matrix;
mod evaluate;
mod loss;
mod model;
mod predict;
mod pretrained;
mod report;
mod token_labeling;

pub use accuracy::Accuracy;
pub use annotate::{CELL, annotator_columns, weights_id, write_label_maps};
pub(crate) use checkpoint::read_weights;
pub use checkpoint::{
    ClassifierInfo, LoadOptions, LoadedClassifier, TokenParts, guess_model, load_classifier,
    save_classifier, save_classifier_half,
};
pub use class_block::{ClassAttention, ClassBlock};
pub use confusion_matrix::{ClassScores, ConfusionMatrix, macro_f1, mean_per_class_accuracy};
pub(crate) use evaluate::images_tensor;
pub use evaluate::{Evaluation, evaluate};
pub use loss::{cross_entropy, soft_target_cross_entropy};
pub use model::{ImageClassifier, ImageClassifierConfig};
pub use predict::{Prediction, best_classes, predict};
pub use pretrained::{PRETRAINED, Pretrained};
pub use report::{ConfusionTable, write_per_class_csv};
pub use token_labeling::{TokenTargets, swap_box, token_label_loss};

/// Short names of the ImageNet-1K classes in the order of the official logits, that of their
/// sorted WordNet ids. From timm (Apache-2.0) and anishathalye/imagenet-simple-labels (public
/// domain).
pub fn imagenet1k_classes() -> Vec<String> {
    imagenet1k().map(|(_, name)| name.to_owned()).collect()
}

/// WordNet ids of the ImageNet-1K classes, the names of the folders of the data set, in the same
/// order.
pub fn imagenet1k_wordnet_ids() -> Vec<String> {
    imagenet1k().map(|(id, _)| id.to_owned()).collect()
}

/// What to call a class: the short name if it goes by the WordNet id of an ImageNet-1K class, as in
/// subsets of that data set, else its own name.
pub fn class_label(class: &str) -> &str {
    let is_id = class.len() == 9 && class.starts_with('n');
    let mut known = imagenet1k().filter(|_| is_id);
    known.find(|(id, _)| *id == class).map_or(class, |(_, name)| name)
}

fn imagenet1k() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("imagenet1k_classes.tsv").lines().filter_map(|line| line.split_once('\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet1k_has_a_thousand_classes_in_order_of_their_ids() {
        let (ids, names) = (imagenet1k_wordnet_ids(), imagenet1k_classes());
        assert_eq!((ids.len(), names.len()), (1000, 1000));
        assert!(ids.is_sorted());
        assert_eq!((ids[0].as_str(), names[0].as_str()), ("n01440764", "tench"));
        assert_eq!(class_label("n01440764"), "tench");
        assert_eq!(class_label("n99999999"), "n99999999");
        assert_eq!(class_label("cat"), "cat");
    }
}
