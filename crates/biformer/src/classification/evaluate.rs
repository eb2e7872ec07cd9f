//! Accuracy and loss of a model over a data set.

use std::ops::ControlFlow;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Accuracy, ConfusionMatrix, ImageClassifier, cross_entropy};
use crate::data::{Batch, DataLoader, EvalTransform};
use crate::distributed::World;

/// Result of [`evaluate`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Hits over all pictures.
    pub accuracy: Accuracy,
    /// Classes taken for each other.
    pub confusion: ConfusionMatrix,
    /// Mean cross entropy without label smoothing.
    pub loss: f64,
    /// Pictures left out because they cannot be decoded.
    pub skipped: usize,
}

impl Evaluation {
    /// The result of all processes together, of which each has evaluated its shard.
    pub fn over(self, world: &World) -> Self {
        if world.size() == 1 {
            return self;
        }
        let [loss_sum] = world.sum([self.loss * self.accuracy.images as f64]);
        let accuracy = self.accuracy.over(world);
        let [skipped] = world.count([self.skipped]);
        let confusion = self.confusion.over(world);
        Self { accuracy, confusion, loss: loss_sum / accuracy.images.max(1) as f64, skipped }
    }
}

/// Runs `model` over the pictures of `loader`; `observe` sees every batch and may break off, which gives `None`.
pub fn evaluate(
    model: &ImageClassifier,
    loader: DataLoader,
    transform: EvalTransform,
    device: &Device,
    mut observe: impl FnMut(&Batch) -> ControlFlow<()>,
) -> Option<Evaluation> {
    let img_size = transform.img_size;
    let mut evaluation = Evaluation::default();
    let mut loss_sum = 0.0;
    for batch in loader.epoch(0, 0, Box::new(move |_, image, _| Ok(transform.apply(image).into())))
    {
        if observe(&batch).is_break() {
            return None;
        }
        evaluation.skipped += batch.skipped.len();
        if batch.labels.is_empty() {
            continue;
        }
        let labels = batch.labels.clone();
        let (images, targets) = to_tensors(batch, img_size, device);
        let logits = model.forward(images);
        let loss: f32 = cross_entropy(logits.clone(), targets, 0.0).into_scalar();
        loss_sum += f64::from(loss) * labels.len() as f64;
        let logits: Vec<f32> = logits.into_data_as::<f32>().try_into_vec().expect("float32 logits");
        evaluation.accuracy.update(&logits, &labels);
        evaluation.confusion.update(&logits, &labels);
    }
    evaluation.loss = loss_sum / evaluation.accuracy.images.max(1) as f64;
    Some(evaluation)
}

/// Pictures and classes of a batch on the device.
fn to_tensors(batch: Batch, img_size: usize, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
    let labels: Vec<i64> = batch.labels.iter().map(|&label| label as i64).collect();
    let labels = TensorData::new(labels, [batch.labels.len()]);
    (images_tensor(batch.pixels, [img_size; 2], device), Tensor::from_data(labels, device))
}

/// Values as transforms give them on the device.
///
/// # Shapes
/// - output: `[batch, 3, height, width]`
pub(crate) fn images_tensor(
    pixels: Vec<f32>,
    [height, width]: [usize; 2],
    device: &Device,
) -> Tensor<4> {
    let count = pixels.len() / (3 * height * width);
    Tensor::from_data(TensorData::new(pixels, [count, 3, height, width]), device)
}
