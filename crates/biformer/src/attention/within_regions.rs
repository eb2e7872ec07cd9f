//! Attention of the tokens of each region to one another: routed attention whose region graph leads from
//! each region to itself.

use biformer_ops::{RegionGrid, RoutedAttentionOptions, routed_attention};
use burn::tensor::{Device, Int, Tensor};

/// softmax(Q Kᵀ / √head_dim) V, head by head, within each region. What fills up the last regions is
/// attended to by nobody.
///
/// # Shapes
/// - query, key, value, output: `[batch, height, width, channels]`, not padded
pub(super) fn attend_within(qkv: [Tensor<4>; 3], grid: &RegionGrid, num_heads: usize) -> Tensor<4> {
    let [query, key, value] = qkv.map(|x| grid.pad(x));
    let [batch, _, _, channels] = query.dims();
    let scale = ((channels / num_heads) as f64).powf(-0.5);
    let options = RoutedAttentionOptions { num_heads, scale, mask_padding: true };
    let graph = own_regions(grid, batch, &query.device());
    grid.crop(routed_attention(query, key, value, graph, grid, &options))
}

/// The region graph that leads from each region to itself.
///
/// # Shapes
/// - output: `[batch, regions, 1]`
pub(super) fn own_regions(grid: &RegionGrid, batch: usize, device: &Device) -> Tensor<3, Int> {
    let regions = grid.regions();
    let own = Tensor::<1, Int>::arange(0..regions as i64, device);
    own.reshape([1, regions, 1]).repeat_dim(0, batch)
}
