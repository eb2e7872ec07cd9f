//! The extension of Burn's GPU backends, which are one backend, `Cube`: fused operators, each with a
//! backward pass. For all other operators the definitions run.
//!
//! Beside [`OpsBackend`](crate::OpsBackend) and not a part of it, because region graphs stay on the GPU
//! here: the CPU's kernels take them as plain numbers, and reading them back would stop the GPU in
//! every block.

mod grid;
mod launch;
mod maps;
mod sum;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, DispatchDevice, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;

pub(crate) use self::grid::{Grid, Region};
pub(crate) use self::launch::{LOWEST, Launch, elem_type, empty, vector_size};
pub(crate) use self::maps::{at, start, zeros};
pub(crate) use self::sum::{rows_per_unit, sum_partial};

use crate::depthwise_conv::{self, cube::ConvolveOptions};
use crate::routed_attention::cube;
use crate::{RegionGrid, RoutedAttentionOptions, RoutingOptions, gelu, layer_norm, routing};

/// Why some methods have no differentiable form.
const WITHOUT_GRADIENTS: &str = "gradients have no gradients";

/// The fused operators of GPUs. Shapes and meaning stand at the public functions of the same names.
#[backend_extension(Autodiff, Cube, Fusion)]
pub trait GpuBackend: Backend {
    /// See [`routed_attention`](fn@crate::routed_attention).
    #[fusion(dtype = query, shape = query)]
    fn gpu_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> FloatTensor<Self>;

    /// See [`depthwise_conv_add`](fn@crate::depthwise_conv_add); `options` says what of it is done.
    #[fusion(dtype = x, shape = x)]
    fn gpu_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: ConvolveOptions,
    ) -> FloatTensor<Self>;

    /// Gradients of weight and bias.
    #[fusion(meta = |_, weight, _| {
        (weight.clone(), TensorSpec::new(Shape::new([weight.shape[0]]), weight.dtype))
    })]
    fn gpu_depthwise_conv_parameters(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`layer_norm_as`](fn@crate::layer_norm_as).
    #[fusion(dtype = *dtype, shape = x)]
    fn gpu_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// Gradients of x, gamma and beta.
    #[fusion(meta = |x, gamma, _, _| (x.clone(), gamma.clone(), gamma.clone()))]
    fn gpu_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`gelu`](fn@crate::gelu).
    #[fusion(default)]
    fn gpu_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::gpu::forward::<Self>(x)
    }

    /// See [`route`](fn@crate::route).
    #[fusion(dtype = DType::I32, shape = routing::cube::graph_shape(query[0], grid, options))]
    fn gpu_route(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutingOptions,
    ) -> IntTensor<Self>;

    /// Gradients of query, key and value, side by side.
    #[allow(clippy::too_many_arguments, reason = "Burn's extensions take no arrays of tensors")]
    #[fusion(dtype = query, shape = Shape::new([query[0], query[1], query[2], 3 * query[3]]))]
    fn gpu_routed_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        output: FloatTensor<Self>,
        grad_output: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> FloatTensor<Self>;

    /// See [`routed_attention_lce`](fn@crate::routed_attention_lce): the output, and the attention in it.
    #[fusion(meta = |qkv, weight, _, _, _, _| {
        let mut shape = qkv.shape.clone();
        shape[3] = weight.shape[0];
        let output = TensorSpec::new(shape, qkv.dtype);
        (output.clone(), output)
    })]
    fn gpu_routed_attention_lce(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of qkv, weight and bias.
    #[fusion(meta = |qkv, weight, _, _, _, _, _| {
        let bias = TensorSpec::new(Shape::new([weight.shape[0]]), weight.dtype);
        (qkv.clone(), weight.clone(), bias)
    })]
    fn gpu_routed_attention_lce_backward(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        attended: FloatTensor<Self>,
        grad_output: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl GpuBackend for CubeBackend {
    fn gpu_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> FloatTensor<Self> {
        cube::forward(query, key, value, region_graph, &grid, &options)
    }

    fn gpu_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: ConvolveOptions,
    ) -> FloatTensor<Self> {
        depthwise_conv::cube::forward(x, weight, bias, residual, options)
    }

    fn gpu_depthwise_conv_parameters(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        depthwise_conv::cube::parameter_gradients(x, weight, grad)
    }

    fn gpu_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        dtype: DType,
    ) -> FloatTensor<Self> {
        layer_norm::cube::forward(x, gamma, beta, epsilon, dtype)
    }

    fn gpu_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::cube::backward(x, gamma, grad, epsilon)
    }

    fn gpu_route(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutingOptions,
    ) -> IntTensor<Self> {
        routing::cube::route(query, key, &grid, &options)
    }

    fn gpu_routed_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        output: FloatTensor<Self>,
        grad_output: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> FloatTensor<Self> {
        cube::backward([query, key, value], region_graph, output, grad_output, &grid, &options)
    }

    fn gpu_routed_attention_lce(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cube::forward_lce(qkv, weight, bias, region_graph, &grid, &options)
    }

    fn gpu_routed_attention_lce_backward(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        attended: FloatTensor<Self>,
        grad_output: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        cube::backward_lce(qkv, weight, region_graph, attended, grad_output, &grid, &options)
    }
}

impl<B: GpuBackend, C: CheckpointStrategy> GpuBackend for Autodiff<B, C> {
    fn gpu_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> FloatTensor<Self> {
        cube::autodiff::forward::<B, C>([query, key, value], region_graph, grid, options)
    }

    fn gpu_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: ConvolveOptions,
    ) -> FloatTensor<Self> {
        assert!(options.bias && !options.turned, "depthwise_conv: {WITHOUT_GRADIENTS}");
        let output = depthwise_conv::cube::autodiff::forward::<B, C>(x, weight, bias);
        // The gradient of the residual is that of the output: a node of its own costs nothing.
        if options.residual { Self::float_add(residual, output) } else { output }
    }

    fn gpu_depthwise_conv_parameters(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("{WITHOUT_GRADIENTS}")
    }

    fn gpu_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        dtype: DType,
    ) -> FloatTensor<Self> {
        layer_norm::cube::autodiff::forward::<B, C>(x, gamma, beta, epsilon, dtype)
    }

    fn gpu_layer_norm_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("{WITHOUT_GRADIENTS}")
    }

    fn gpu_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::gpu::tracked::<B, C>(x)
    }

    fn gpu_route(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        grid: RegionGrid,
        options: RoutingOptions,
    ) -> IntTensor<Self> {
        // Routing chooses: there is no gradient to follow.
        B::gpu_route(query.primitive().clone(), key.primitive().clone(), grid, options)
    }

    fn gpu_routed_attention_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: RegionGrid,
        _: RoutedAttentionOptions,
    ) -> FloatTensor<Self> {
        unreachable!("{WITHOUT_GRADIENTS}")
    }

    fn gpu_routed_attention_lce(
        qkv: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cube::autodiff::forward_lce::<B, C>([qkv, weight, bias], region_graph, grid, options)
    }

    fn gpu_routed_attention_lce_backward(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: IntTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: RegionGrid,
        _: RoutedAttentionOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        unreachable!("{WITHOUT_GRADIENTS}")
    }
}

/// Whether the fused operators of GPUs can take this tensor.
pub(crate) fn is_gpu_float<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16)
        && matches!(x.device().inner().as_dispatch(), DispatchDevice::Cube(_))
}
