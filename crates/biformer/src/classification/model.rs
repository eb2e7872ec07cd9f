//! Backbone, batch norm, mean over the map, linear head.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};

use crate::layers::{Linear, batch_norm};
use crate::models::{BiFormer, BiFormerConfig};

/// Configuration of [`ImageClassifier`].
#[derive(Config, Debug)]
pub struct ImageClassifierConfig {
    /// What features come from.
    pub backbone: BiFormerConfig,
    /// Classes of the head.
    #[config(default = 1000)]
    pub num_classes: usize,
}

/// A backbone with a classification head.
#[derive(Module, Debug)]
pub struct ImageClassifier {
    /// What features come from.
    pub backbone: BiFormer,
    /// Batch norm before the mean over the map.
    pub norm: BatchNorm,
    /// From features to logits.
    pub head: Linear,
}

impl ImageClassifierConfig {
    /// The classifier with fresh weights.
    pub fn init(&self, device: &Device) -> ImageClassifier {
        let [.., dim] = self.backbone.embed_dims;
        ImageClassifier {
            backbone: self.backbone.init(device),
            norm: BatchNormConfig::new(dim).init(device),
            head: Linear::new(dim, self.num_classes, true, device),
        }
    }
}

impl ImageClassifier {
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - output: logits, `[batch, num_classes]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let [.., c5] = self.backbone.forward_stages(x);
        self.classify(c5)
    }

    /// The head alone.
    ///
    /// # Shapes
    /// - c5: `[batch, height, width, channels]`
    /// - output: logits, `[batch, num_classes]`
    pub fn classify(&self, c5: Tensor<4>) -> Tensor<2> {
        let [batch, height, width, channels] = c5.dims();
        let x = batch_norm(&self.norm, c5).reshape([batch, height * width, channels]);
        self.head.forward(x.mean_dim(1).squeeze_dim::<2>(1))
    }

    /// See [`BiFormer::for_inference`].
    pub fn for_inference(self) -> Self {
        self.for_inference_in(Precision::F32)
    }

    /// See [`BiFormer::for_inference_in`]. The head, which is small and has the last word, stays in
    /// float32.
    pub fn for_inference_in(self, precision: Precision) -> Self {
        Self {
            backbone: self.backbone.for_inference_in(precision),
            head: self.head.for_inference(Precision::F32),
            ..self
        }
    }

    /// Number of classes of the head.
    pub fn num_classes(&self) -> usize {
        let [_, num_classes] = self.head.weight.lazy_shape().dims();
        num_classes
    }
}
