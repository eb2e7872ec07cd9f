//! The convolution of ViTDet (Li et al., ECCV 2022), which a layer norm follows.

use biformer_ops::Precision;
use burn::module::{Initializer, Module};
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use super::LayerNorm;
use super::conv_module::config;
use super::convolution::{FoldedConv, convolve};
use super::linear::given_up;

/// A convolution without bias and a layer norm over its channels.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// An odd square kernel, zeros around the map.
    pub conv: Conv2d,
    /// Over the channels of each token.
    pub norm: LayerNorm,
    /// The convolution, for inference.
    #[module(skip)]
    prepared: Option<FoldedConv>,
}

impl ConvNorm {
    /// Weights are drawn as detectron2 draws them: He's normal by the channels out.
    pub fn new(channels: [usize; 2], size: usize, device: &Device) -> Self {
        let he = Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true };
        Self {
            conv: config(channels, size, he).with_bias(false).init(device),
            norm: LayerNorm::new(channels[1], device),
            prepared: None,
        }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`
    /// - output: `[batch, height, width, channels_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(match &self.prepared {
            Some(conv) => conv.forward(x, false),
            None => convolve(&self.conv, x),
        })
    }

    /// See [`Linear::for_inference`](super::Linear::for_inference).
    pub fn for_inference(mut self, precision: Precision) -> Self {
        self.prepared = Some(FoldedConv::alone(&self.conv, precision));
        self.conv.weight = given_up(&self.conv.weight);
        self
    }
}
