//! Backbone, norm, mean over the map, linear head; with token labeling also class attention
//! and a head for each token.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::ClassBlock;
use crate::Result;
use crate::layers::{HeadNorm, LayerNorm, Linear, PatchEmbedKind};
use crate::models::{BiFormer, BiFormerConfig};

/// Weight of the best token at test time (official code of token labeling).
const TOKEN_WEIGHT: f64 = 0.5;

/// Configuration of [`ImageClassifier`].
#[derive(Config, Debug)]
pub struct ImageClassifierConfig {
    /// What features come from.
    pub backbone: BiFormerConfig,
    /// Classes of the head.
    #[config(default = 1000)]
    pub num_classes: usize,
    /// Blocks of class attention between mean and head.
    #[config(default = 0)]
    pub class_blocks: usize,
    /// Whether a second head classifies each token, as token labeling trains it.
    #[config(default = false)]
    pub aux_head: bool,
}

/// A backbone with a classification head.
#[derive(Module, Debug)]
pub struct ImageClassifier {
    /// What features come from.
    pub backbone: BiFormer,
    /// Before the mean over the map.
    pub norm: HeadNorm,
    /// From features to logits.
    pub head: Linear,
    /// Blocks of class attention; the class token begins as the mean over the map.
    pub post_network: Vec<ClassBlock>,
    /// From a token to its logits.
    pub aux_head: Option<Linear>,
}

impl ImageClassifierConfig {
    /// The model of this name as the paper's token labeling has it (Table 6, last row): with a head
    /// for each token, and with one block of class attention, except in B. The paper names no
    /// such block; with it S comes to the paper's 29 M parameters, and B to its 58 M without.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if there is no such model.
    pub fn token_labeling(name: &str) -> Result<Self> {
        let class_blocks = usize::from(name != "biformer_base");
        let config = Self::new(BiFormerConfig::from_name(name)?);
        Ok(config.with_class_blocks(class_blocks).with_aux_head(true))
    }

    /// The classifier with fresh weights.
    pub fn init(&self, device: &Device) -> ImageClassifier {
        let [.., dim] = self.backbone.embed_dims;
        let head = || Linear::new(dim, self.num_classes, true, device);
        let norm = match self.backbone.patch_embed {
            PatchEmbedKind::Swin => {
                let epsilon = self.backbone.norm_epsilon();
                HeadNorm::Layer(LayerNorm::new(dim, device).with_epsilon(epsilon))
            }
            PatchEmbedKind::Overlapped | PatchEmbedKind::NonOverlapped => {
                HeadNorm::batch(dim, device)
            }
        };
        ImageClassifier {
            backbone: self.backbone.init(device),
            norm,
            head: head(),
            post_network: (0..self.class_blocks).map(|_| ClassBlock::new(dim, device)).collect(),
            aux_head: self.aux_head.then(head),
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

    /// The heads alone: the logits of the picture, plus half of the greatest over the tokens if
    /// there is a head for those.
    ///
    /// # Shapes
    /// - c5: `[batch, height, width, channels]`
    /// - output: logits, `[batch, num_classes]`
    pub fn classify(&self, c5: Tensor<4>) -> Tensor<2> {
        let tokens = self.norm.forward(c5);
        let logits = self.class_logits(tokens.clone());
        match &self.aux_head {
            Some(head) => logits + greatest(head.forward(tokens)) * TOKEN_WEIGHT,
            None => logits,
        }
    }

    /// The logits of the picture and those of its tokens, from the head that has none of its own
    /// if need be.
    ///
    /// # Shapes
    /// - c5: `[batch, height, width, channels]`
    /// - outputs: `[batch, num_classes]`, `[batch, height, width, num_classes]`
    pub fn classify_tokens(&self, c5: Tensor<4>) -> (Tensor<2>, Tensor<4>) {
        let tokens = self.norm.forward(c5);
        let head = self.aux_head.as_ref().unwrap_or(&self.head);
        (self.class_logits(tokens.clone()), head.forward(tokens))
    }

    /// See [`BiFormer::for_inference`].
    pub fn for_inference(self) -> Self {
        self.for_inference_in(Precision::F32)
    }

    /// See [`BiFormer::for_inference_in`]. The heads, which are small and have the last word, stay in
    /// float32.
    pub fn for_inference_in(self, precision: Precision) -> Self {
        let head = |head: Linear| head.for_inference(Precision::F32);
        let blocks = self.post_network.into_iter();
        Self {
            backbone: self.backbone.for_inference_in(precision),
            head: head(self.head),
            post_network: blocks.map(|block| block.for_inference(precision)).collect(),
            aux_head: self.aux_head.map(head),
            ..self
        }
    }

    /// Number of classes of the head.
    pub fn num_classes(&self) -> usize {
        let [_, num_classes] = self.head.weight.lazy_shape().dims();
        num_classes
    }

    /// Class attention and head, from normalised tokens.
    ///
    /// # Shapes
    /// - tokens: `[batch, height, width, channels]`
    /// - output: `[batch, num_classes]`
    fn class_logits(&self, tokens: Tensor<4>) -> Tensor<2> {
        let [batch, height, width, channels] = tokens.dims();
        let mean = tokens.clone().reshape([batch, height * width, channels]).mean_dim(1);
        let class = mean.reshape([batch, 1, 1, channels]);
        let attend = |class, block: &ClassBlock| block.forward(class, tokens.clone());
        let class = self.post_network.iter().fold(class, attend);
        self.head.forward(class.reshape([batch, channels]))
    }
}

/// # Shapes
/// - logits: `[batch, height, width, num_classes]`
/// - output: the greatest over the tokens, `[batch, num_classes]`
fn greatest(logits: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, num_classes] = logits.dims();
    logits.reshape([batch, height * width, num_classes]).max_dim(1).squeeze_dim::<2>(1)
}
