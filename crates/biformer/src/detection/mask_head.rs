//! The head of masks (He et al., *Mask R-CNN*, ICCV 2017, §3; mmdetection's `FCNMaskHead`): a mask of each region
//! for each class that it may be.

use biformer_ops::{LinearFusion, Precision, Weight, convolution_weight, linear};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, activation::relu};

use crate::layers::{ConvModule, TransposedConv};

/// Configuration of [`MaskHead`].
#[derive(Config, Debug, PartialEq)]
pub struct MaskHeadConfig {
    /// Channels of the pyramid and of the head.
    #[config(default = 256)]
    pub channels: usize,
    /// Convolutions before masks are doubled in size.
    #[config(default = 4)]
    pub num_convs: usize,
}

/// Convolutions with ReLU, twice the size, a ReLU, and a logit of each class.
#[derive(Module, Debug)]
pub struct MaskHead {
    /// 3 × 3
    pub convs: Vec<ConvModule>,
    /// Each token becomes four.
    pub upsample: TransposedConv,
    /// 1 × 1
    pub conv_logits: MaskClassifier,
}

/// The last layer.
#[derive(Module, Debug)]
pub struct MaskClassifier {
    /// `[num_classes, channels, 1, 1]`
    pub weight: Param<Tensor<4>>,
    /// `[num_classes]`
    pub bias: Param<Tensor<1>>,
}

impl MaskHeadConfig {
    /// The head with fresh weights: He's normal by the channels out, and 0 for biases.
    pub fn init(&self, num_classes: usize, device: &Device) -> MaskHead {
        let &Self { channels, num_convs } = self;
        let he = Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true };
        let conv = |_| {
            let mut conv = ConvModule::plain([channels; 2], 3, 1, device);
            let fan = Some(9 * channels);
            conv.conv.weight = he.init_with([channels, channels, 3, 3], fan, fan, device);
            conv
        };
        let mut upsample = TransposedConv::new([channels; 2], device);
        let fan = Some(4 * channels);
        upsample.weight = he.init_with([channels, channels, 2, 2], fan, fan, device);
        upsample.bias = Initializer::Zeros.init([channels], device);
        MaskHead {
            convs: (0..num_convs).map(conv).collect(),
            upsample,
            conv_logits: MaskClassifier {
                weight: he.init_with(
                    [num_classes, channels, 1, 1],
                    Some(channels),
                    Some(num_classes),
                    device,
                ),
                bias: Initializer::Zeros.init([num_classes], device),
            },
        }
    }
}

impl MaskHead {
    /// # Shapes
    /// - x: features of regions, `[rois, height, width, channels]`
    /// - output: logits, `[rois, 2 · height, 2 · width, num_classes]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [rois, height, width, _] = x.dims();
        let x = self.convs.iter().fold(x, |x, conv| relu(conv.forward(x)));
        // What follows looks at each token alone, so that they find their places at the end, when there is
        // least to move.
        let x = relu(self.upsample.forward_quads(x));
        let weight = Weight::Plain(convolution_weight(self.conv_logits.weight.val()));
        let bias = Some(self.conv_logits.bias.val());
        let logits = linear(x, &weight, bias, LinearFusion::default()); // [tokens, 4, num_classes]
        TransposedConv::arrange(logits, [rois, height, width])
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference(self, precision: Precision) -> Self {
        let convs = self.convs.into_iter().map(|conv| conv.for_inference(precision));
        let upsample = self.upsample.for_inference(precision);
        Self { convs: convs.collect(), upsample, ..self }
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        let [num_classes] = self.conv_logits.bias.lazy_shape().dims();
        num_classes
    }
}
