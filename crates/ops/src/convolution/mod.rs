//! Convolutions of channels-last maps: stem, merging, necks and heads.

pub(crate) mod autodiff;
pub(crate) mod cpu;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32, is_fused};
use crate::linear::{Weight, is_tracked, product_type};
use crate::precision::autocast_precision;
use crate::profile::{self, Class};
use crate::{PackedWeight, gelu};

/// What a convolution looks at: square windows, zeros around the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of the kernel.
    pub size: usize,
    /// Distance of two windows.
    pub stride: usize,
    /// Zeros on each side of the map.
    pub padding: usize,
}

impl Window {
    /// Windows along a side of `length` tokens.
    ///
    /// # Panics
    /// If not even one fits.
    pub fn count(&self, length: usize) -> usize {
        let padded = length + 2 * self.padding;
        assert!(padded >= self.size, "a side of {length} is smaller than the {self:?}");
        (padded - self.size) / self.stride + 1
    }
}

/// A kernel as PyTorch stores it, as the weight of a product with patches.
///
/// # Shapes
/// - kernel: `[channels_out, channels_in, size, size]`
/// - output: `[size * size * channels_in, channels_out]`
pub fn convolution_weight(kernel: Tensor<4>) -> Tensor<2> {
    let [channels_out, channels_in, height, width] = kernel.dims();
    kernel.permute([2, 3, 1, 0]).reshape([height * width * channels_in, channels_out])
}

/// Convolution, then GELU if asked for. With gradients, [`autocast`](crate::autocast) says what its products
/// round to.
///
/// # Shapes
/// - x: `[batch, height, width, channels_in]`
/// - weight: `[size * size * channels_in, channels_out]`, from [`convolution_weight`]
/// - bias: `[channels_out]`
/// - output: `[batch, window.count(height), window.count(width), channels_out]`
///
/// # Panics
/// If sizes differ, no window fits, or a packed weight meets tensors with gradients.
pub fn convolution(
    x: Tensor<4>,
    weight: &Weight,
    bias: Tensor<1>,
    window: Window,
    with_gelu: bool,
) -> Tensor<4> {
    let _span = profile::span(Class::Convolution);
    let [_, _, _, channels_in] = x.dims();
    let [dim_in, dim_out] = weight.dims();
    assert!(
        dim_in == window.size * window.size * channels_in && bias.dims() == [dim_out],
        "convolution: got a weight {dim_in} × {dim_out} and a bias {:?} for {channels_in} channels and {window:?}",
        bias.dims()
    );
    if is_fused(&x) && !is_tracked(weight) {
        let Weight::Packed(PackedWeight { panels, .. }) = weight.clone().pack() else {
            unreachable!("weights on the CPU can be packed");
        };
        let options = ConvolutionOptions { window, channels_out: dim_out, gelu: with_gelu };
        let (x, panels, bias) = (x.into_dispatch(), panels.into_dispatch(), bias.into_dispatch());
        return Tensor::from_dispatch(Dispatch::fused_convolution(x, panels, bias, options));
    }
    let Weight::Plain(weight) = weight else {
        panic!("convolution: a packed weight has no gradient");
    };
    let device = x.device();
    let x = if is_cpu_f32(&x) {
        let (x, weight) = (x.into_dispatch(), weight.clone().into_dispatch());
        let bias = bias.into_dispatch();
        Tensor::from_dispatch(Dispatch::differentiable_convolution(
            x,
            weight,
            bias,
            window,
            autocast_precision(&device),
        ))
    } else {
        let (of, dtype) = (x.dtype(), product_type(weight.dtype(), &device));
        let (x, weight) = (x.cast(dtype), weight.clone().cast(dtype));
        reference::convolution(x, weight, bias.cast(dtype), window).cast(of)
    };
    if with_gelu { gelu(x) } else { x }
}

/// What [`OpsBackend::fused_convolution`] needs to know beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct ConvolutionOptions {
    /// What it looks at.
    pub window: Window,
    /// Columns of the weight.
    pub channels_out: usize,
    /// Whether a GELU follows.
    pub gelu: bool,
}

/// [`convolution`] without GELU by the definition, on any device.
pub fn convolution_reference(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    window: Window,
) -> Tensor<4> {
    reference::convolution(x, weight, bias, window)
}
