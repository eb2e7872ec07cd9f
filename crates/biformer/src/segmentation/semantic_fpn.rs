//! The head of Semantic FPN (Kirillov et al., *Panoptic Feature Pyramid Networks*, CVPR 2019, §3.1;
//! mmsegmentation's `FPNHead`): every level of a pyramid is brought to stride 4, and their sum is classified.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::PixelClassifier;
use crate::layers::{ConvModule, resize_bilinear};

/// Configuration of [`SemanticFpnHead`] and of the pyramid in front of it.
#[derive(Config, Debug, PartialEq)]
pub struct SemanticFpnConfig {
    /// Channels of each level of the pyramid.
    #[config(default = 256)]
    pub pyramid_channels: usize,
    /// Channels of the features of the head.
    #[config(default = 128)]
    pub channels: usize,
}

/// Convolutions of each level, then the classes of their sum.
#[derive(Module, Debug)]
pub struct SemanticFpnHead {
    /// 3 × 3 convolutions of each level, as many as it is to be doubled in size; the finest level has
    /// one and is not.
    pub scale_heads: Vec<Vec<ConvModule>>,
    /// From features to logits.
    pub conv_seg: PixelClassifier,
}

impl SemanticFpnConfig {
    /// The head with fresh weights, for levels of strides 4, 8, 16 and 32.
    pub fn init(&self, num_classes: usize, device: &Device) -> SemanticFpnHead {
        let &Self { pyramid_channels, channels } = self;
        let conv = |i: usize| {
            let channels_in = if i == 0 { pyramid_channels } else { channels };
            ConvModule::norm_relu([channels_in, channels], 3, device)
        };
        SemanticFpnHead {
            scale_heads: [1, 1, 2, 3].map(|count| (0..count).map(conv).collect()).into(),
            conv_seg: PixelClassifier::new(channels, num_classes, device),
        }
    }
}

impl SemanticFpnHead {
    /// # Shapes
    /// - levels: `[batch, height / 2ⁱ, width / 2ⁱ, pyramid_channels]`, finest first
    /// - output: logits, `[batch, num_classes, height, width]`
    ///
    /// # Panics
    /// If there are not as many levels as heads.
    pub fn forward(&self, levels: &[Tensor<4>]) -> Tensor<4> {
        let (found, expected) = (levels.len(), self.scale_heads.len());
        assert_eq!(found, expected, "semantic_fpn: got {found} levels, expected {expected}");
        let [_, height, width, _] = levels[0].dims();
        let at_finest = levels.iter().zip(&self.scale_heads).enumerate().map(|(i, (x, convs))| {
            let mut x = x.clone();
            for conv in convs {
                x = conv.forward(x);
                if i > 0 {
                    let [_, height, width, _] = x.dims();
                    x = resize_bilinear(x, [2 * height, 2 * width]);
                }
            }
            // Sides that do not divide by 32 were rounded up on the way down.
            resize_bilinear(x, [height, width])
        });
        let sum = at_finest.reduce(|sum, x| sum + x).expect("a level");
        self.conv_seg.forward(sum)
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference(self, precision: Precision) -> Self {
        let prepared = |convs: Vec<ConvModule>| {
            convs.into_iter().map(|conv| conv.for_inference(precision)).collect()
        };
        Self { scale_heads: self.scale_heads.into_iter().map(prepared).collect(), ..self }
    }
}
