//! Image classification: the model with its head, loss, accuracy, evaluation and prediction.

mod accuracy;
mod checkpoint;
pub mod color_histogram;
mod evaluate;
mod loss;
mod model;
mod predict;

pub use accuracy::Accuracy;
pub use checkpoint::{
    ClassifierInfo, LoadOptions, LoadedClassifier, guess_model, load_classifier, save_classifier,
};
pub(crate) use evaluate::to_tensors;
pub use evaluate::{Evaluation, evaluate};
pub use loss::cross_entropy;
pub use model::{ImageClassifier, ImageClassifierConfig};
pub use predict::{Prediction, predict};

/// Short names of the ImageNet-1K classes in the order of the official logits, that of their
/// sorted WordNet ids. From timm (Apache-2.0) and anishathalye/imagenet-simple-labels (public
/// domain).
pub fn imagenet1k_classes() -> Vec<String> {
    include_str!("imagenet1k_classes.txt").lines().map(str::to_owned).collect()
}
