//! The one extension of Burn's backends: fused operators, each with a backward pass.
//!
//! An operator's `mod.rs` chooses between its definition (`reference.rs`, any device) and the
//! fused one here (CPU so far).

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor};

use crate::routed_attention::{self, Routing};
use crate::{RegionGrid, RoutingOptions, depthwise_conv, gelu, routing};

/// The fused operators. Shapes and meaning stand at the public functions of the same names.
#[backend_extension(Autodiff, Flex)]
pub trait OpsBackend: burn::backend::Backend {
    /// See [`depthwise_conv`](fn@crate::depthwise_conv).
    fn fused_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`gelu`](fn@crate::gelu).
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`routed_attention`](fn@crate::routed_attention).
    fn fused_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
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
    fn fused_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        depthwise_conv::cpu::forward(&x, &weight, &bias)
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::cpu::forward(&x)
    }

    fn fused_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self> {
        routed_attention::cpu::forward(&query, &key, &value, &routing)
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
    fn fused_depthwise_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        depthwise_conv::autodiff::forward::<C>(x, weight, bias)
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        gelu::autodiff::forward::<C>(x)
    }

    fn fused_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        routing: Routing,
    ) -> FloatTensor<Self> {
        routed_attention::autodiff::forward::<C>(query, key, value, routing)
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

/// Whether the fused CPU operators can take this tensor.
pub(crate) fn is_cpu_f32<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().inner() == Device::flex()
}
