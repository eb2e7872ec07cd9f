//! Convolutions of channels-last maps, and their union with a batch norm.

use biformer_ops::{LinearFusion, Precision, Weight, Window};
use biformer_ops::{convolution, convolution_weight, linear};
use burn::nn::{BatchNorm, PaddingConfig2d, conv::Conv2d};
use burn::tensor::Tensor;

/// # Shapes
/// - x: `[batch, height, width, channels_in]`
/// - output: `[batch, height / stride, width / stride, channels_out]`
pub(crate) fn convolve(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let weight = Weight::Plain(convolution_weight(conv.weight.val()));
    apply(&weight, bias(conv), window(conv), x, false)
}

/// A convolution, with a batch norm if there is one, prepared for inference.
#[derive(Clone, Debug)]
pub(crate) struct FoldedConv {
    weight: Weight,
    bias: Tensor<1>,
    window: Window,
}

impl FoldedConv {
    /// conv(x)
    pub(crate) fn alone(conv: &Conv2d, precision: Precision) -> Self {
        let weight = convolution_weight(conv.weight.val().without_autodiff());
        let weight = Weight::Plain(weight).pack_in(precision);
        Self { weight, bias: bias(conv).without_autodiff(), window: window(conv) }
    }

    /// norm(conv(x))
    pub(crate) fn before_norm(conv: &Conv2d, norm: &BatchNorm, precision: Precision) -> Self {
        let (scale, shift) = affine(norm);
        let weight = convolution_weight(conv.weight.val().without_autodiff());
        let bias = bias(conv).without_autodiff() * scale.clone() + shift;
        let weight = Weight::Plain(weight * scale.unsqueeze_dim(0)).pack_in(precision);
        Self { weight, bias, window: window(conv) }
    }

    /// conv(norm(x)), for a convolution without padding.
    pub(crate) fn after_norm(norm: &BatchNorm, conv: &Conv2d, precision: Precision) -> Self {
        let (scale, shift) = affine(norm);
        let window = window(conv);
        assert_eq!(window.padding, 0, "zeros around the map are not normalised");
        let weight = convolution_weight(conv.weight.val().without_autodiff());
        let taps = window.size * window.size;
        let (scale, shift) = (scale.repeat_dim(0, taps), shift.repeat_dim(0, taps));
        let shift = shift.unsqueeze_dim::<2>(0).matmul(weight.clone()).squeeze_dim(0);
        let weight = Weight::Plain(weight * scale.unsqueeze_dim(1)).pack_in(precision);
        Self { weight, bias: bias(conv).without_autodiff() + shift, window }
    }

    /// The convolution, then GELU if asked for; shapes as for [`convolve`].
    pub(crate) fn forward(&self, x: Tensor<4>, gelu: bool) -> Tensor<4> {
        apply(&self.weight, self.bias.clone(), self.window, x, gelu)
    }
}

/// A kernel of one token is a linear layer, which reads the map in place.
fn apply(weight: &Weight, bias: Tensor<1>, window: Window, x: Tensor<4>, gelu: bool) -> Tensor<4> {
    match window {
        Window { size: 1, stride: 1, padding: 0 } => {
            linear(x, weight, Some(bias), LinearFusion { gelu, ..Default::default() })
        }
        _ => convolution(x, weight, bias, window, gelu),
    }
}

/// What a batch norm does in evaluation: x · scale + shift, both `[channels]`.
fn affine(norm: &BatchNorm) -> (Tensor<1>, Tensor<1>) {
    let [gamma, beta] = [&norm.gamma, &norm.beta].map(|x| x.val().without_autodiff());
    let [mean, variance] =
        [&norm.running_mean, &norm.running_var].map(|x| x.value_sync().without_autodiff());
    let scale = gamma / (variance + norm.epsilon).sqrt();
    (scale.clone(), beta - mean * scale)
}

fn bias(conv: &Conv2d) -> Tensor<1> {
    match &conv.bias {
        Some(bias) => bias.val(),
        None => {
            let [channels_out, ..] = conv.weight.dims();
            Tensor::zeros([channels_out], &conv.weight.device())
        }
    }
}

fn window(conv: &Conv2d) -> Window {
    let padding = match conv.padding {
        PaddingConfig2d::Explicit(top, ..) => top,
        _ => 0,
    };
    Window { size: conv.kernel_size[0], stride: conv.stride[0], padding }
}
