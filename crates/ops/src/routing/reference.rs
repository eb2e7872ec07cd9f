//! The definition, in plain tensor operations.

use burn::tensor::{Bool, Int, Tensor};

use super::{RoutingOptions, affinity, region_means, topk_regions};
use crate::RegionGrid;

pub(super) fn route(
    query: &Tensor<4>,
    key: &Tensor<4>,
    grid: &RegionGrid,
    options: &RoutingOptions,
) -> Tensor<3, Int> {
    let exclude_padding = options.exclude_padding || options.mask_padding;
    let query_means = region_means(query.clone().detach(), grid, exclude_padding); // Q^r
    let key_means = region_means(key.clone().detach(), grid, exclude_padding); // K^r
    let mut affinity = affinity(query_means, key_means);
    if options.mask_padding && grid.is_padded() {
        let [batch, regions, _] = affinity.dims();
        let empty: Tensor<1, Bool> =
            grid.padding_mask(&affinity.device()).all_dim(1).squeeze_dim(1); // [regions]
        let empty = empty.reshape([1, 1, regions]).expand([batch, regions, regions]);
        affinity = affinity.mask_fill(empty, f32::NEG_INFINITY);
    }
    topk_regions(affinity, options.topk)
}
