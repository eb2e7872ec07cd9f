//! From pictures to class probabilities.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};
use image::RgbImage;

use super::ImageClassifier;
use crate::data::EvalTransform;

/// One of the best classes of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Index of the class.
    pub class: usize,
    /// Softmax probability.
    pub probability: f32,
}

/// The `topk` best classes of each picture, best first.
pub fn predict(
    model: &ImageClassifier,
    images: &[RgbImage],
    transform: &EvalTransform,
    topk: usize,
    device: &Device,
) -> Vec<Vec<Prediction>> {
    if images.is_empty() {
        return Vec::new();
    }
    let size = transform.img_size;
    let pixels: Vec<f32> = images.iter().flat_map(|image| transform.apply(image)).collect();
    let input = TensorData::new(pixels, [images.len(), 3, size, size]);
    best_classes(model.forward(Tensor::from_data(input, device)), topk)
}

/// The `topk` best classes of each picture, best first.
///
/// # Shapes
/// - logits: `[batch, num_classes]`
pub fn best_classes(logits: Tensor<2>, topk: usize) -> Vec<Vec<Prediction>> {
    let [_, num_classes] = logits.dims();
    let probabilities = softmax(logits, 1).into_data_as::<f32>();
    let probabilities: Vec<f32> = probabilities.try_into_vec().expect("float32 probabilities");
    let best = |row: &[f32]| {
        let mut ranked: Vec<_> = row
            .iter()
            .enumerate()
            .map(|(class, &probability)| Prediction { class, probability })
            .collect();
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        ranked.truncate(topk);
        ranked
    };
    probabilities.chunks(num_classes).map(best).collect()
}
