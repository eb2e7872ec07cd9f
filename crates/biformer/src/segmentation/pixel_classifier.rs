//! The last layer of each head.

use biformer_ops::{LinearFusion, Weight, convolution_weight, linear};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::layers::ChannelDropout;

/// Of the official models, all heads.
const DROPOUT: f64 = 0.1;

/// Dropout of channels in training, then from features to logits, for each pixel (mmsegmentation's
/// `conv_seg`).
#[derive(Module, Debug)]
pub struct PixelClassifier {
    /// `[num_classes, channels, 1, 1]`
    pub weight: Param<Tensor<4>>,
    /// `[num_classes]`
    pub bias: Param<Tensor<1>>,
    /// In front.
    pub dropout: ChannelDropout,
}

impl PixelClassifier {
    /// Weights from N(0, 0.01²) and a bias of 0, as mmsegmentation draws them.
    pub fn new(channels: usize, num_classes: usize, device: &Device) -> Self {
        let normal = Initializer::Normal { mean: 0.0, std: 0.01 };
        Self {
            weight: normal.init([num_classes, channels, 1, 1], device),
            bias: Initializer::Zeros.init([num_classes], device),
            dropout: ChannelDropout::new(DROPOUT),
        }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: logits, `[batch, num_classes, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = Weight::Plain(convolution_weight(self.weight.val()));
        let x = self.dropout.forward(x);
        let logits = linear(x, &weight, Some(self.bias.val()), LinearFusion::default());
        logits.permute([0, 3, 1, 2]) // [batch, num_classes, height, width]
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        let [num_classes] = self.bias.lazy_shape().dims();
        num_classes
    }
}
