//! The extension of Burn's backends for the CPU: fused operators, each with a backward pass.
//!
//! An operator's `mod.rs` chooses between its definition (`reference.rs`, any device) and the
//! fused one here, or of a GPU in `gpu.rs`.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor};

use crate::all_reduce::{self, Reducer};
use crate::biased_attention::{self, cpu::Options as BiasedAttention};
use crate::convolution::{self, ConvolutionOptions, Window};
use crate::linear::{self, LinearOptions};
use crate::resample::{self, Resampling};
use crate::roi_align::{self, RoiSampling};
use crate::routed_attention::{self, Routing};
use crate::{
    Precision, RegionGrid, RoutingOptions, batch_norm, depthwise_conv, gelu, layer_norm, routing,
};

/// Why some methods have no differentiable form.
const WITHOUT_GRADIENTS: &str = "the public functions choose differentiable kernels";

/// The fused operators. Shapes and meaning stand at the public functions of the same names.
#[backend_extension(Autodiff, Flex)]
pub trait OpsBackend: burn::backend::Backend {
    /// See [`all_reduce`](fn@crate::all_reduce).
    fn all_reduce(x: FloatTensor<Self>, reducer: Reducer) -> FloatTensor<Self>;

    /// See [`biased_attention`](fn@crate::biased_attention); the bias is any tensor if `options` says that there is none.
    fn fused_biased_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: BiasedAttention,
    ) -> FloatTensor<Self>;

    /// See [`depthwise_conv`](fn@crate::depthwise_conv).
    fn fused_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`depthwise_conv_add`](fn@crate::depthwise_conv_add).
    fn fused_depthwise_conv_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`gelu`](fn@crate::gelu).
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`layer_norm`](fn@crate::layer_norm).
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// See [`batch_norm`](fn@crate::batch_norm); of any tensor, without gradients.
    fn batch_moments(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`batch_norm`](fn@crate::batch_norm); `moments` are those of `x`.
    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// See [`Weight::pack_in`](crate::Weight::pack_in).
    fn pack_weight(weight: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self>;

    /// See [`linear`](fn@crate::linear); `gamma` and `beta` are those of the layer norm. Of tensors
    /// that `options` calls absent any may be given: Burn's extensions take no options of tensors.
    fn fused_linear(
        x: FloatTensor<Self>,
        panels: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: LinearOptions,
    ) -> FloatTensor<Self>;

    /// See [`linear`](fn@crate::linear).
    fn differentiable_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// See [`convolution`](fn@crate::convolution).
    fn fused_convolution(
        x: FloatTensor<Self>,
        panels: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self>;

    /// See [`convolution`](fn@crate::convolution).
    fn differentiable_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// See [`resample`](fn@crate::resample).
    fn fused_resample(x: FloatTensor<Self>, resampling: Resampling) -> FloatTensor<Self>;

    /// See [`roi_align`](fn@crate::roi_align).
    fn fused_roi_align(x: FloatTensor<Self>, sampling: RoiSampling) -> FloatTensor<Self>;

    /// See [`routed_attention`](fn@crate::routed_attention).
    fn fused_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self>;

    /// See [`routed_attention_lce`](fn@crate::routed_attention_lce).
    fn differentiable_attention_lce(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self>;

    /// See [`route`](fn@crate::route).
    fn fused_route(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutingOptions,
    ) -> IntTensor<Self>;
}

impl OpsBackend for Flex {
    fn all_reduce(x: FloatTensor<Self>, reducer: Reducer) -> FloatTensor<Self> {
        all_reduce::forward(&x, &reducer)
    }

    fn fused_biased_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: BiasedAttention,
    ) -> FloatTensor<Self> {
        biased_attention::cpu::forward([&query, &key, &value, &bias], &options)
    }

    fn fused_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        depthwise_conv::cpu::forward(x, &weight, &bias, None)
    }

    fn fused_depthwise_conv_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        depthwise_conv::cpu::forward(x, &weight, &bias, Some(residual))
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::cpu::forward(&x)
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        layer_norm::cpu::forward(&x, &gamma, &beta, epsilon)
    }

    fn batch_moments(x: FloatTensor<Self>) -> FloatTensor<Self> {
        batch_norm::cpu::moments(&x)
    }

    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        batch_norm::cpu::forward(&x, &gamma, &beta, &moments, epsilon)
    }

    fn pack_weight(weight: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        linear::cpu::pack(&weight, precision)
    }

    fn fused_linear(
        x: FloatTensor<Self>,
        panels: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: LinearOptions,
    ) -> FloatTensor<Self> {
        linear::cpu::fused(&x, &panels, &bias, [&gamma, &beta], &residual, options)
    }

    fn differentiable_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        linear::cpu::forward(&x, &weight, &bias, precision)
    }

    fn fused_convolution(
        x: FloatTensor<Self>,
        panels: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        convolution::cpu::fused(&x, &panels, &bias, options)
    }

    fn differentiable_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
        precision: Precision,
    ) -> FloatTensor<Self> {
        convolution::cpu::forward(&x, &weight, &bias, window, precision)
    }

    fn fused_resample(x: FloatTensor<Self>, resampling: Resampling) -> FloatTensor<Self> {
        resample::cpu::forward(&x, &resampling)
    }

    fn fused_roi_align(x: FloatTensor<Self>, sampling: RoiSampling) -> FloatTensor<Self> {
        roi_align::cpu::forward(&x, &sampling)
    }

    fn fused_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self> {
        routed_attention::cpu::forward(&query, &key, &value, &routing)
    }

    fn differentiable_attention_lce(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self> {
        routed_attention::lce::forward(&qkv, &weight, &bias, &routing)
    }

    fn fused_route(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutingOptions,
    ) -> IntTensor<Self> {
        routing::cpu::route(&query, &key, &grid, &options)
    }
}

impl<C: CheckpointStrategy> OpsBackend for Autodiff<Flex, C> {
    fn all_reduce(x: FloatTensor<Self>, reducer: Reducer) -> FloatTensor<Self> {
        all_reduce::differentiable::<C>(x, reducer)
    }

    fn fused_biased_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: BiasedAttention,
    ) -> FloatTensor<Self> {
        biased_attention::autodiff::forward::<C>([query, key, value, bias], options)
    }

    fn fused_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        depthwise_conv::autodiff::forward::<C>(x, weight, bias)
    }

    fn fused_depthwise_conv_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        // The gradient of the residual is that of the output: a node of its own costs nothing.
        let output = depthwise_conv::autodiff::forward::<C>(x, weight, bias);
        Self::float_add(residual, output)
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::autodiff::forward::<C>(x)
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        layer_norm::autodiff::forward::<C>(x, gamma, beta, epsilon)
    }

    fn batch_moments(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(batch_norm::cpu::moments(x.primitive()))
    }

    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        batch_norm::autodiff::forward::<C>(x, gamma, beta, moments, epsilon)
    }

    fn pack_weight(_: FloatTensor<Self>, _: Precision) -> FloatTensor<Self> {
        unreachable!("{WITHOUT_GRADIENTS}")
    }

    fn fused_linear(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: LinearOptions,
    ) -> FloatTensor<Self> {
        unreachable!("{WITHOUT_GRADIENTS}")
    }

    fn differentiable_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        linear::autodiff::forward::<C>(x, weight, bias, precision)
    }

    fn fused_convolution(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        unreachable!("{WITHOUT_GRADIENTS}")
    }

    fn differentiable_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
        precision: Precision,
    ) -> FloatTensor<Self> {
        convolution::autodiff::forward::<C>(x, weight, bias, window, precision)
    }

    fn fused_resample(x: FloatTensor<Self>, resampling: Resampling) -> FloatTensor<Self> {
        resample::autodiff::forward::<C>(x, resampling)
    }

    fn fused_roi_align(x: FloatTensor<Self>, sampling: RoiSampling) -> FloatTensor<Self> {
        roi_align::autodiff::forward::<C>(x, sampling)
    }

    fn fused_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self> {
        routed_attention::autodiff::forward::<C>(query, key, value, routing)
    }

    fn differentiable_attention_lce(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self> {
        routed_attention::lce::differentiable::<C>(qkv, weight, bias, routing)
    }

    fn fused_route(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutingOptions,
    ) -> IntTensor<Self> {
        // Routing chooses: there is no gradient to follow.
        routing::cpu::route(query.primitive(), key.primitive(), &grid, &options)
    }
}

/// Whether operators take the fused kernels of the CPU for this tensor, without gradients.
pub fn is_fused<const D: usize>(x: &Tensor<D>) -> bool {
    is_cpu_f32(x) && !x.is_autodiff()
}

/// Whether operators on this device compute on the processor.
pub fn is_cpu(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// Whether the fused CPU operators can take this tensor.
pub(crate) fn is_cpu_f32<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().inner() == Device::flex()
}
