//! The convolution of necks and heads, with what follows it.

use biformer_ops::Precision;
use burn::module::{Initializer, Module};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, activation::relu};

use super::batch_norm;
use super::convolution::{FoldedConv, convolve};
use super::linear::given_up;

/// A convolution alone, or one that batch norm and ReLU follow: mmcv's `ConvModule`, whose names
/// it has.
#[derive(Module, Debug)]
pub struct ConvModule {
    /// An odd square kernel, zeros around the map. It has a bias if no norm follows.
    pub conv: Conv2d,
    /// Followed by a ReLU.
    pub bn: Option<BatchNorm>,
    /// Both in one, for inference.
    #[module(skip)]
    folded: Option<FoldedConv>,
}

impl ConvModule {
    /// Convolution, batch norm and ReLU. Weights are drawn as mmcv draws them: He's normal by the
    /// channels out.
    pub fn norm_relu(channels: [usize; 2], size: usize, device: &Device) -> Self {
        let he = Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true };
        Self {
            conv: config(channels, size, he).with_bias(false).init(device),
            bn: Some(BatchNormConfig::new(channels[1]).init(device)),
            folded: None,
        }
    }

    /// A convolution and its bias. Weights are drawn as those of a feature pyramid: Glorot's uniform,
    /// and 0 for the bias.
    pub fn plain(channels: [usize; 2], size: usize, stride: usize, device: &Device) -> Self {
        let glorot = Initializer::XavierUniform { gain: 1.0 };
        let mut conv = config(channels, size, glorot).with_stride([stride; 2]).init(device);
        conv.bias = Some(Initializer::Zeros.init([channels[1]], device));
        Self { conv, bn: None, folded: None }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`
    /// - output: `[batch, height / stride, width / stride, channels_out]`, rounded up
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match (&self.folded, &self.bn) {
            (Some(folded), _) => folded.forward(x, false),
            (None, Some(norm)) => batch_norm(norm, convolve(&self.conv, x)),
            (None, None) => convolve(&self.conv, x),
        };
        if self.bn.is_some() { relu(x) } else { x }
    }

    /// Norm and convolution in one. The plain weight is given up: such a layer can neither be trained nor
    /// saved.
    pub fn for_inference(mut self, precision: Precision) -> Self {
        self.folded = Some(match &self.bn {
            Some(norm) => FoldedConv::before_norm(&self.conv, norm, precision),
            None => FoldedConv::alone(&self.conv, precision),
        });
        self.conv.weight = given_up(&self.conv.weight);
        self
    }
}

/// Zeros around the map as wide as half of the kernel.
pub(super) fn config(channels: [usize; 2], size: usize, initializer: Initializer) -> Conv2dConfig {
    let padding = size / 2;
    Conv2dConfig::new(channels, [size; 2])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_initializer(initializer)
}
