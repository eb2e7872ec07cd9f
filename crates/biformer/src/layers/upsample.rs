//! Maps of twice the size, learnt.

use biformer_ops::{LinearFusion, Weight, linear};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// A transposed convolution of 2 × 2 with stride 2: each token becomes four by a linear layer, since their windows
/// do not overlap.
#[derive(Module, Debug)]
pub struct Upsample {
    /// `[channels_in, channels_out, 2, 2]`, as PyTorch stores it.
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`
    pub bias: Param<Tensor<1>>,
}

impl Upsample {
    /// He's normal by what PyTorch takes for the channels out, and a bias of 0, as mmdetection draws them.
    pub fn new(channels_in: usize, channels_out: usize, device: &Device) -> Self {
        let he = Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true };
        let (shape, fan_out) = ([channels_in, channels_out, 2, 2], 4 * channels_in);
        Self {
            weight: he.init_with(shape, Some(4 * channels_out), Some(fan_out), device),
            bias: Initializer::Zeros.init([channels_out], device),
        }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`
    /// - output: `[batch, 2 · height, 2 · width, channels_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, _] = x.dims();
        Self::arrange(self.forward_quads(x), [batch, height, width])
    }

    /// [`Upsample::forward`] before the tokens are in their places.
    ///
    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`
    /// - output: `[batch · height · width, 4, channels_out]`, upper left and right, lower left and right
    pub fn forward_quads(&self, x: Tensor<4>) -> Tensor<3> {
        let [batch, height, width, channels_in] = x.dims();
        let [_, channels_out, ..] = self.weight.dims();
        let weight = self.weight.val().permute([0, 2, 3, 1]); // [channels_in, 2, 2, channels_out]
        let weight = Weight::Plain(weight.reshape([channels_in, 4 * channels_out]));
        let bias = self.bias.val().repeat_dim(0, 4);
        let x = x.reshape([batch * height * width, channels_in]);
        let x = linear(x, &weight, Some(bias), LinearFusion::default());
        x.reshape([batch * height * width, 4, channels_out])
    }

    /// Puts the tokens of [`Upsample::forward_quads`] in their places.
    ///
    /// # Shapes
    /// - quads: `[batch · height · width, 4, channels]`
    /// - size: `[batch, height, width]`
    /// - output: `[batch, 2 · height, 2 · width, channels]`
    pub fn arrange(quads: Tensor<3>, [batch, height, width]: [usize; 3]) -> Tensor<4> {
        let [.., channels] = quads.dims();
        let quads = quads.reshape([batch, height, width, 2, 2, channels]);
        let rows = quads.permute([0, 1, 3, 2, 4, 5]); // [batch, height, 2, width, 2, channels]
        rows.reshape([batch, 2 * height, 2 * width, channels])
    }
}
