//! The transposed convolution of pyramids and masks: kernels of 2 × 2, stride 2.

use biformer_ops::{LinearFusion, Precision, Weight, linear};
use burn::module::{Module, Param};
use burn::nn::conv::ConvTranspose2dConfig;
use burn::tensor::{Device, Tensor};

use super::linear::given_up;

/// Each token becomes two by two. Kernels do not overlap, so that it is a linear layer to four times the
/// channels, whose output is laid out anew.
#[derive(Module, Debug)]
pub struct TransposedConv {
    /// `[channels_in, channels_out, 2, 2]`
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`
    pub bias: Param<Tensor<1>>,
    /// What inference reads in place of `weight`.
    #[module(skip)]
    prepared: Option<Weight>,
}

impl TransposedConv {
    /// Weights drawn as PyTorch draws them; channels in and out.
    pub fn new(channels: [usize; 2], device: &Device) -> Self {
        let conv = ConvTranspose2dConfig::new(channels, [2, 2]).with_stride([2, 2]).init(device);
        let bias = conv.bias.expect("transposed convolutions have a bias");
        Self { weight: conv.weight, bias, prepared: None }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`
    /// - output: `[batch, 2 * height, 2 * width, channels_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        let [channels] = self.bias.dims();
        let bias = Some(self.bias.val().repeat_dim(0, 4));
        let weight = self.prepared.clone().unwrap_or_else(|| self.product_weight());
        linear(x, &weight, bias, LinearFusion::default())
            .reshape([batch, height, width, 2, 2, channels])
            .permute([0, 1, 3, 2, 4, 5]) // [batch, height, 2, width, 2, channels]
            .reshape([batch, 2 * height, 2 * width, channels])
    }

    /// See [`Linear::for_inference`](super::Linear::for_inference).
    pub fn for_inference(self, precision: Precision) -> Self {
        let Weight::Plain(weight) = self.product_weight() else { return self };
        let prepared = Some(Weight::Plain(weight.without_autodiff()).pack_in(precision));
        Self { weight: given_up(&self.weight), bias: self.bias, prepared }
    }

    /// `[channels_in, 2 * 2 * channels_out]`
    fn product_weight(&self) -> Weight {
        let [channels_in, channels_out, ..] = self.weight.dims();
        let weight = self.weight.val().permute([0, 2, 3, 1]);
        Weight::Plain(weight.reshape([channels_in, 4 * channels_out]))
    }
}
