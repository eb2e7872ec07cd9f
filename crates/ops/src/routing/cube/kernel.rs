//! Region means, and the regions of highest affinity to each.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::gpu::{Grid, LOWEST, Region, at, start};

/// One unit = one region of the query or of the key, as many channels as a vector has.
///
/// # Shapes
/// - query, key: `[batch, rows * region_height, cols * region_width, channels]`
/// - means: `[2, batch, regions, channels]`, of the query and of the key
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "a kernel takes no options")]
pub(super) fn region_means<E: Float, N: Size>(
    query: &Tensor<Vector<E, N>>,
    key: &Tensor<Vector<E, N>>,
    means: &mut Tensor<Vector<f32, N>>,
    grid: &Grid,
    #[comptime] exclude_padding: bool,
    #[define(E)] _type: ElemType,
) {
    let vector_size = query.vector_size();
    let (batch, regions) = (means.shape(1), means.shape(2));
    let vectors = means.shape(3) / vector_size;
    if ABSOLUTE_POS >= 2 * batch * regions * vectors {
        terminate!();
    }
    let channel = ABSOLUTE_POS % vectors * vector_size;
    let region = ABSOLUTE_POS / vectors % regions;
    let image = ABSOLUTE_POS / (vectors * regions) % batch;
    let cells = grid.region(region, exclude_padding);
    let is_key = ABSOLUTE_POS >= batch * regions * vectors;
    let sum = if is_key {
        region_sum(key, image, channel, &cells)
    } else {
        region_sum(query, image, channel, &cells)
    };
    let map = u32::cast_from(is_key) as usize;
    let place =
        map * means.stride(0) + image * means.stride(1) + region * means.stride(2) + channel;
    means[place / vector_size] = sum / Vector::new(cells.count());
}

#[cube]
fn region_sum<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    image: usize,
    channel: usize,
    cells: &Region,
) -> Vector<f32, N> {
    let first = start(map, image, channel);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut y = cells.top;
    while y < cells.bottom {
        let mut x = cells.left;
        while x < cells.right {
            sum += Vector::cast_from(map[at(map, first, y, x)]);
            x += 1;
        }
        y += 1;
    }
    sum
}

/// One unit = one pair of regions (Eq. 4).
///
/// # Shapes
/// - means: `[2, batch, regions, channels]`
/// - affinity: `[batch, regions, regions]`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn affinity<N: Size>(
    means: &Tensor<Vector<f32, N>>,
    affinity: &mut Tensor<f32>,
    grid: &Grid,
    #[comptime] mask_padding: bool,
) {
    let vector_size = means.vector_size();
    let (batch, regions) = (means.shape(1), means.shape(2));
    if ABSOLUTE_POS >= batch * regions * regions {
        terminate!();
    }
    let key_region = ABSOLUTE_POS % regions;
    let query = ABSOLUTE_POS / regions * means.stride(2);
    let image = ABSOLUTE_POS / (regions * regions);
    let key = means.stride(0) + image * means.stride(1) + key_region * means.stride(2);
    let mut products = Vector::<f32, N>::new(0.0f32);
    for c in 0..means.shape(3) / vector_size {
        products += means[query / vector_size + c] * means[key / vector_size + c];
    }
    let mut sum = products.vector_sum();
    if grid.region(key_region, mask_padding).is_empty() {
        sum = f32::new(LOWEST);
    }
    affinity[ABSOLUTE_POS] = sum;
}

/// One unit = one pair of regions. The rank of a region is the number of those of higher affinity, or of the
/// same and a lower number: the graph (Eq. 5) needs no sorting, and each of its numbers is written once.
///
/// # Shapes
/// - affinity: `[batch, regions, regions]`
/// - graph: `[batch, regions, topk]`
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn topk(affinity: &Tensor<f32>, graph: &mut Tensor<i32>) {
    let regions = affinity.shape(2);
    let topk = graph.shape(2);
    if ABSOLUTE_POS >= graph.shape(0) * regions * regions {
        terminate!();
    }
    let region = ABSOLUTE_POS % regions;
    let row = ABSOLUTE_POS / regions;
    let own = affinity[ABSOLUTE_POS];
    let mut rank = 0usize;
    for rival in 0..regions {
        let other = affinity[row * regions + rival];
        if other > own || (other == own && rival < region) {
            rank += 1;
        }
    }
    if rank < topk {
        graph[row * topk + rank] = i32::cast_from(region);
    }
}
