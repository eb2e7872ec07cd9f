//! Region-to-region routing: region means → affinity (Eq. 4) → region graph (Eq. 5).

pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod cube;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use crate::RegionGrid;
use crate::backend::{OpsBackend, is_cpu_f32};
#[cfg(feature = "gpu")]
use crate::gpu::{GpuBackend, is_gpu_float};
use crate::profile::{self, Class};

/// How regions choose the regions that they attend to.
#[derive(Clone, Copy, Debug)]
pub struct RoutingOptions {
    /// Regions that each region attends to, the paper's k. Values above the number of regions
    /// mean all of them.
    pub topk: usize,
    /// Whether padded tokens are left out of the region means. The released T, S, B and STL
    /// models count them in, STL-nchw leaves them out.
    pub exclude_padding: bool,
    /// Whether regions that hold nothing but padding can never be chosen.
    pub mask_padding: bool,
}

impl Default for RoutingOptions {
    fn default() -> Self {
        Self { topk: 4, exclude_padding: false, mask_padding: false }
    }
}

/// The region graph I^r of Eq. 5: for each region the `topk` regions of highest affinity, in
/// descending order.
///
/// No gradient flows through routing: the attention that follows carries it (supplement A).
/// The affinity is not scaled, since a positive factor does not change the order.
///
/// # Shapes
/// - query, key: `[batch, rows * region_height, cols * region_width, channels]`, padded
/// - output: `[batch, regions, min(topk, regions)]`
pub fn route(
    query: &Tensor<4>,
    key: &Tensor<4>,
    grid: &RegionGrid,
    options: &RoutingOptions,
) -> Tensor<3, Int> {
    let _span = profile::span(Class::Routing);
    let int_dtype = query.device().settings().int_dtype;
    #[cfg(feature = "gpu")]
    if is_gpu_float(query) {
        let (query, key) = (query.clone().into_dispatch(), key.clone().into_dispatch());
        let graph = Dispatch::gpu_route(query, key, *grid, *options);
        return Tensor::<3, Int>::from_dispatch(graph).cast(int_dtype);
    }
    if !is_cpu_f32(query) {
        return reference::route(query, key, grid, options);
    }
    let (query, key) = (query.clone().into_dispatch(), key.clone().into_dispatch());
    let graph = Tensor::<3, Int>::from_dispatch(Dispatch::fused_route(query, key, *grid, *options));
    graph.cast(int_dtype)
}

/// The definition of [`route`] in plain tensor operations, on any device.
pub fn route_reference(
    query: &Tensor<4>,
    key: &Tensor<4>,
    grid: &RegionGrid,
    options: &RoutingOptions,
) -> Tensor<3, Int> {
    reference::route(query, key, grid, options)
}

/// Mean token of each region.
///
/// # Shapes
/// - x: `[batch, rows * region_height, cols * region_width, channels]`, padded
/// - output: `[batch, regions, channels]`
pub fn region_means(x: Tensor<4>, grid: &RegionGrid, exclude_padding: bool) -> Tensor<3> {
    let x = grid.partition(x); // [batch, regions, tokens, channels]
    if !(exclude_padding && grid.is_padded()) {
        return x.mean_dim(2).squeeze_dim(2);
    }
    let [_, regions, tokens, _] = x.dims();
    let valid = grid.padding_mask(&x.device()).bool_not().float(); // [regions, tokens]
    let count = valid.clone().sum_dim(1).clamp_min(1.0); // [regions, 1]
    let weight = valid / count; // [regions, tokens]
    (x * weight.reshape([1, regions, tokens, 1])).sum_dim(2).squeeze_dim(2)
}

/// Region affinity A^r = Q^r (K^r)ᵀ (Eq. 4).
///
/// # Shapes
/// - query_means, key_means: `[batch, regions, channels]`
/// - output: `[batch, regions, regions]`
pub fn affinity(query_means: Tensor<3>, key_means: Tensor<3>) -> Tensor<3> {
    query_means.matmul(key_means.swap_dims(1, 2))
}

/// I^r = topkIndex(A^r) (Eq. 5), row by row in descending order of affinity.
///
/// # Shapes
/// - affinity: `[batch, regions, regions]`
/// - output: `[batch, regions, min(topk, regions)]`
pub fn topk_regions(affinity: Tensor<3>, topk: usize) -> Tensor<3, Int> {
    let [_, _, regions] = affinity.dims();
    if topk >= regions {
        return affinity.argsort_descending(2); // Burn's argtopk takes less than all
    }
    affinity.argtopk(topk, 2)
}
