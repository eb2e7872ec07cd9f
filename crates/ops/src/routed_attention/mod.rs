//! Token-to-token attention over the routed regions (Eq. 6–7, without the LCE term).
//!
//! Every query token of a region attends to all tokens of the `topk` regions that the region
//! graph names: O = softmax(scale · Q Kᵍᵀ) Vᵍ, head by head.

pub(crate) mod autodiff;
mod backward;
mod block;
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod cube;
mod forward;
pub(crate) mod layout;
pub(crate) mod lce;
pub(crate) mod quads;
mod reference;
mod softmax;
pub(crate) mod tile;

use std::ops::Range;

use burn::backend::Dispatch;
use burn::tensor::{DType, Int, Tensor};

pub use self::cpu::Routing;
use crate::backend::{OpsBackend, is_cpu, is_cpu_f32};
#[cfg(feature = "gpu")]
use crate::gpu::{GpuBackend, is_gpu_float};
use crate::profile::{self, Class};
use crate::{RegionGrid, depthwise_conv_add};

/// What the attention needs to know beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct RoutedAttentionOptions {
    /// Heads; must divide the channels.
    pub num_heads: usize,
    /// Factor of the logits. The official models use `dim^-0.5` with the whole dimension, not
    /// that of one head.
    pub scale: f64,
    /// Whether padded tokens are left out as keys. Off in the official models.
    pub mask_padding: bool,
}

/// Output of routed attention with the weights that led to it.
#[derive(Clone, Debug)]
pub struct RoutedAttention {
    /// `[batch, rows * region_height, cols * region_width, channels]`
    pub output: Tensor<4>,
    /// Attention weights, `[batch * regions, num_heads, tokens, topk * tokens]`; keys follow
    /// the order of the region graph.
    pub weights: Tensor<4>,
}

/// Attention of each region's tokens to the tokens of its routed regions.
///
/// # Shapes
/// - query, key, value: `[batch, rows * region_height, cols * region_width, channels]`, padded
/// - region_graph: `[batch, regions, topk]`, from [`route`](crate::route)
/// - output: like `query`
///
/// # Panics
/// If `num_heads` does not divide the channels.
pub fn routed_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    region_graph: Tensor<3, Int>,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> Tensor<4> {
    let _span = profile::span(Class::RoutedAttention);
    check_heads(&query, options.num_heads);
    #[cfg(feature = "gpu")]
    if is_fused_on_gpu([&query, &key, &value], options.num_heads) {
        return on_gpu([query, key, value], region_graph, *grid, *options);
    }
    if !is_cpu_f32(&query) {
        return routed_attention_traced(query, key, value, region_graph, grid, options).output;
    }
    let routing = Routing::new(region_graph, grid, options);
    fused(query, key, value, routing)
}

/// Whether a kernel computes [`routed_attention`] of these. If not it runs by its definition, which gathers keys
/// and values and has all logits in memory.
///
/// # Shapes
/// - qkv: query, key and value, `[batch, rows * region_height, cols * region_width, channels]`
///
/// # Errors
/// Why no kernel does.
#[cfg_attr(
    not(feature = "gpu"),
    allow(unused_variables, reason = "on the CPU heads have any size")
)]
pub fn check_fused_attention(qkv: [&Tensor<4>; 3], num_heads: usize) -> Result<(), String> {
    let types = qkv.map(Tensor::dtype);
    if is_cpu(&qkv[0].device()) {
        return match types {
            [DType::F32, DType::F32, DType::F32] => Ok(()),
            _ => Err(format!("maps of {types:?}, where kernels of the CPU take F32")),
        };
    }
    #[cfg(feature = "gpu")]
    {
        let [.., channels] = qkv[0].dims();
        let (head_dim, most) = (channels / num_heads, cube::MAX_HEAD_DIM);
        if !is_gpu_float(qkv[0]) || types != [types[0]; 3] {
            let reason = "kernels of GPUs take all in F32, in F16 or in BF16";
            return Err(format!("maps of {types:?}, where {reason}"));
        }
        if head_dim > most {
            let reason = "kernels of GPUs hold in registers";
            return Err(format!(
                "heads of {head_dim} channels, more than the {most} that {reason}"
            ));
        }
    }
    Ok(())
}

/// Whether the kernels of GPUs take these.
#[cfg(feature = "gpu")]
pub(crate) fn is_fused_on_gpu(qkv: [&Tensor<4>; 3], num_heads: usize) -> bool {
    !is_cpu(&qkv[0].device()) && check_fused_attention(qkv, num_heads).is_ok()
}

/// Attention by the kernels of GPUs.
#[cfg(feature = "gpu")]
pub(crate) fn on_gpu(
    qkv: [Tensor<4>; 3],
    region_graph: Tensor<3, Int>,
    grid: RegionGrid,
    options: RoutedAttentionOptions,
) -> Tensor<4> {
    // Here and not only where it is launched, which happens later on another thread.
    cube::check(qkv.each_ref().map(Tensor::dims), region_graph.dims(), &grid);
    let [query, key, value] = qkv.map(Tensor::into_dispatch);
    let graph = region_graph.into_dispatch();
    Tensor::from_dispatch(Dispatch::gpu_routed_attention(query, key, value, graph, grid, options))
}

/// Attention by the kernels of the CPU.
pub(crate) fn fused(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    routing: Routing,
) -> Tensor<4> {
    let (query, key, value) = (query.into_dispatch(), key.into_dispatch(), value.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_routed_attention(query, key, value, routing))
}

/// attention(Q, Kᵍ, Vᵍ) + LCE(V), all of Eq. 7, from Q, K and V side by side.
///
/// # Shapes
/// - qkv: `[batch, rows * region_height, cols * region_width, 3 * channels]`, padded
/// - region_graph: `[batch, regions, topk]`
/// - weight: `[channels, 1, kernel_size, kernel_size]`, of the depthwise convolution LCE
/// - bias: `[channels]`
/// - output: `[batch, rows * region_height, cols * region_width, channels]`
///
/// # Panics
/// If `num_heads` does not divide the channels.
pub fn routed_attention_lce(
    qkv: Tensor<4>,
    region_graph: Tensor<3, Int>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> Tensor<4> {
    let [.., channels] = qkv.dims();
    let [query, key, value] = split_qkv(qkv.clone());
    check_heads(&query, options.num_heads);
    assert_eq!(bias.dims(), [channels / 3], "routed_attention_lce: bias");
    #[cfg(feature = "gpu")]
    if is_fused_on_gpu([&query, &key, &value], options.num_heads)
        && crate::depthwise_conv::is_fused_on_gpu(&qkv, &weight, &bias)
    {
        let _span = profile::span(Class::RoutedAttention);
        assert_eq!(weight.dims()[0], channels / 3, "routed_attention_lce: weight");
        cube::check([query.dims(); 3], region_graph.dims(), grid);
        let (qkv, weight, bias) =
            (qkv.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
        let (graph, grid, options) = (region_graph.into_dispatch(), *grid, *options);
        let (output, _) =
            Dispatch::gpu_routed_attention_lce(qkv, weight, bias, graph, grid, options);
        return Tensor::from_dispatch(output);
    }
    if !(is_cpu_f32(&qkv) && qkv.is_autodiff()) {
        let attended = routed_attention(query, key, value.clone(), region_graph, grid, options);
        return depthwise_conv_add(value, weight, bias, attended);
    }
    let _span = profile::span(Class::RoutedAttention);
    let routing = Routing::new(region_graph, grid, options);
    let (qkv, weight, bias) = (qkv.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::differentiable_attention_lce(qkv, weight, bias, routing))
}

/// Q, K and V of a map that has them side by side.
///
/// # Shapes
/// - qkv: `[batch, height, width, 3 * channels]`
/// - outputs: `[batch, height, width, channels]`
pub fn split_qkv(qkv: Tensor<4>) -> [Tensor<4>; 3] {
    let [.., channels] = qkv.dims();
    [0, 1, 2].map(|i| qkv.clone().narrow(3, i * (channels / 3), channels / 3))
}

/// [`routed_attention`] that also returns the attention weights.
pub fn routed_attention_traced(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    region_graph: Tensor<3, Int>,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> RoutedAttention {
    let _span = profile::span(Class::RoutedAttention);
    check_heads(&query, options.num_heads);
    reference::routed_attention(query, key, value, region_graph, grid, options)
}

/// The weights of [`routed_attention_traced`] for some regions alone: those of a large map are too many
/// to hold together.
///
/// # Shapes
/// - query, key: `[batch, rows * region_height, cols * region_width, channels]`, padded
/// - region_graph: `[batch, regions, topk]`, of all regions
/// - output: `[batch * regions.len(), num_heads, tokens, topk * tokens]`
///
/// # Panics
/// If `num_heads` does not divide the channels, or there are no such regions.
pub fn routed_attention_weights(
    query: Tensor<4>,
    key: Tensor<4>,
    region_graph: Tensor<3, Int>,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
    regions: Range<usize>,
) -> Tensor<4> {
    let _span = profile::span(Class::RoutedAttention);
    check_heads(&query, options.num_heads);
    reference::attention_weights(query, key, region_graph, grid, options, regions)
}

/// Panics if the heads do not divide the channels.
pub(crate) fn check_heads(query: &Tensor<4>, num_heads: usize) {
    let [_, _, _, channels] = query.dims();
    assert!(
        channels.is_multiple_of(num_heads),
        "channels must be divisible by num_heads, got {channels} channels and {num_heads} heads"
    );
}
