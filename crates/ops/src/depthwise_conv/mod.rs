//! Depthwise convolution on channels-last maps: the LCE of Eq. 7 (5 × 5) and the position
//! encoding of a block (3 × 3).

pub(crate) mod autodiff;
mod convolve;
mod correlate;
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod cube;
mod reference;
mod window;

use burn::backend::Dispatch;
#[cfg(feature = "gpu")]
use burn::tensor::DType;
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32};
#[cfg(feature = "gpu")]
use crate::gpu::{GpuBackend, is_gpu_float};
use crate::profile::{self, Class};

/// Each channel convolved with its own odd, square kernel; zero padding keeps the size.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - weight: `[channels, 1, kernel_size, kernel_size]`, as PyTorch stores it
/// - bias: `[channels]`
/// - output: `[batch, height, width, channels]`
///
/// # Panics
/// If the channels of `x`, `weight` and `bias` differ, or the kernel is not odd and square.
pub fn depthwise_conv(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let _span = profile::span(Class::DepthwiseConv);
    check(&x, &weight, &bias);
    #[cfg(feature = "gpu")]
    if is_fused_on_gpu(&x, &weight, &bias) {
        return on_gpu(x, weight, bias, None);
    }
    if is_cpu_f32(&x) {
        let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
        Tensor::from_dispatch(Dispatch::fused_depthwise_conv(x, weight, bias))
    } else {
        reference::depthwise_conv(x, weight, bias)
    }
}

/// residual + [`depthwise_conv`]`(x, weight, bias)`, in one pass where the kernel is fused.
///
/// # Shapes
/// - residual: like the output
///
/// # Panics
/// As [`depthwise_conv`], and if the shape of the residual is not that of `x`.
pub fn depthwise_conv_add(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Tensor<4>,
) -> Tensor<4> {
    let _span = profile::span(Class::DepthwiseConv);
    check(&x, &weight, &bias);
    assert_eq!(residual.dims(), x.dims(), "depthwise_conv_add: shape of the residual");
    #[cfg(feature = "gpu")]
    if is_fused_on_gpu(&x, &weight, &bias) && residual.dtype() == x.dtype() {
        return on_gpu(x, weight, bias, Some(residual));
    }
    if is_cpu_f32(&x) {
        let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
        let residual = residual.into_dispatch();
        Tensor::from_dispatch(Dispatch::fused_depthwise_conv_add(x, weight, bias, residual))
    } else {
        residual + reference::depthwise_conv(x, weight, bias)
    }
}

/// Whether the kernels of GPUs take these: sums are float32, and so may the parameters of half maps be.
#[cfg(feature = "gpu")]
pub(crate) fn is_fused_on_gpu(x: &Tensor<4>, weight: &Tensor<4>, bias: &Tensor<1>) -> bool {
    is_gpu_float(x)
        && weight.dtype() == bias.dtype()
        && [x.dtype(), DType::F32].contains(&weight.dtype())
}

#[cfg(feature = "gpu")]
fn on_gpu(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Option<Tensor<4>>,
) -> Tensor<4> {
    let options = cube::ConvolveOptions { bias: true, residual: residual.is_some(), turned: false };
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    let residual = residual.map_or_else(|| x.clone(), Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::gpu_depthwise_conv(x, weight, bias, residual, options))
}

/// The same weight for many forward passes: in memory it is channels last, as the kernel of a GPU reads it, which
/// else copies it at each pass. On the CPU it stays as it is.
///
/// # Shapes
/// - weight, output: `[channels, 1, kernel_size, kernel_size]`
pub fn prepare_depthwise_weight(weight: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    if is_gpu_float(&weight) {
        let (device, dtype) = (weight.device(), weight.dtype());
        let rows = weight.permute([2, 3, 0, 1]).into_data(); // [kernel_size, kernel_size, channels, 1]
        return Tensor::from_data(rows, (&device, dtype)).permute([2, 3, 0, 1]);
    }
    weight
}

/// The definition of [`depthwise_conv`] in plain tensor operations, on any device.
pub fn depthwise_conv_reference(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    reference::depthwise_conv(x, weight, bias)
}

fn check(x: &Tensor<4>, weight: &Tensor<4>, bias: &Tensor<1>) {
    let [_, _, _, channels] = x.dims();
    let [weight_channels, one, kernel_height, kernel_width] = weight.dims();
    assert!(
        weight_channels == channels && bias.dims() == [channels] && one == 1,
        "depthwise_conv: got weight {:?} and bias {:?}, expected {channels} channels",
        weight.dims(),
        bias.dims()
    );
    assert!(
        kernel_height == kernel_width && kernel_width % 2 == 1,
        "depthwise_conv: got a kernel of {kernel_height} × {kernel_width}, expected odd and square"
    );
}
