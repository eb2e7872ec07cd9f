//! The auxiliary head of UPerNet (mmsegmentation's `FCNHead`, after Long et al., CVPR 2015): it trains with
//! the model and is not asked afterwards.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::PixelClassifier;
use crate::layers::ConvModule;

/// Configuration of [`FcnHead`].
#[derive(Config, Debug, PartialEq)]
pub struct FcnHeadConfig {
    /// Channels of the map that it looks at.
    pub channels_in: usize,
    /// Channels of its features.
    #[config(default = 256)]
    pub channels: usize,
}

/// One 3 × 3 convolution, then the classes.
#[derive(Module, Debug)]
pub struct FcnHead {
    /// A single one in the official models.
    pub convs: Vec<ConvModule>,
    /// From features to logits.
    pub conv_seg: PixelClassifier,
}

impl FcnHeadConfig {
    /// The head with fresh weights.
    pub fn init(&self, num_classes: usize, device: &Device) -> FcnHead {
        let conv = ConvModule::norm_relu([self.channels_in, self.channels], 3, device);
        FcnHead {
            convs: vec![conv],
            conv_seg: PixelClassifier::new(self.channels, num_classes, device),
        }
    }
}

impl FcnHead {
    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`
    /// - output: logits, `[batch, num_classes, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv_seg.forward(self.convs.iter().fold(x, |x, conv| conv.forward(x)))
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference(self, precision: Precision) -> Self {
        let convs = self.convs.into_iter().map(|conv| conv.for_inference(precision));
        Self { convs: convs.collect(), ..self }
    }
}
