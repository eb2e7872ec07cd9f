//! Tokens of one head in registers: what the kernels of both passes share.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Which region is the `number`-th that `region` attends to.
#[cube]
pub(super) fn routed<I: Int>(
    region_graph: &Tensor<I>,
    image: usize,
    region: usize,
    number: usize,
) -> usize {
    let routed = region_graph[image * region_graph.stride(0)
        + region * region_graph.stride(1)
        + number * region_graph.stride(2)];
    let routed = u32::cast_from(routed) as usize;
    let regions = region_graph.shape(1);
    select(routed < regions, routed, regions - 1)
}

/// The channels of a head at a place of [`at`](crate::gpu::at), in registers.
#[cube]
pub(super) fn read<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    place: usize,
    factor: f32,
    #[comptime] vectors: usize,
) -> Sequence<Vector<f32, N>> {
    // A sequence, not an array: each vector is a variable of its own.
    let mut channels = Sequence::<Vector<f32, N>>::new();
    #[unroll]
    for c in 0..vectors {
        let vector = Vector::<f32, N>::cast_from(map[place + c * map.stride(3)]);
        channels.push(vector * Vector::new(factor));
    }
    channels
}

/// Inner product of registers with a token of a map.
#[cube]
pub(super) fn dot<E: Float, N: Size>(
    own: &Sequence<Vector<f32, N>>,
    map: &Tensor<Vector<E, N>>,
    place: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut products = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for c in 0..vectors {
        let vector = Vector::<f32, N>::cast_from(map[place + c * map.stride(3)]);
        products += own[c] * vector;
    }
    products.vector_sum()
}

/// Adds a token of a map, weighted.
#[cube]
pub(super) fn add<E: Float, N: Size>(
    sums: &mut Sequence<Vector<f32, N>>,
    weight: f32,
    map: &Tensor<Vector<E, N>>,
    place: usize,
    #[comptime] vectors: usize,
) {
    let weight = Vector::<f32, N>::new(weight);
    #[unroll]
    for c in 0..vectors {
        let vector = Vector::<f32, N>::cast_from(map[place + c * map.stride(3)]);
        sums[c] += weight * vector;
    }
}

/// Adds what a map has already.
#[cube]
pub(super) fn accumulate<E: Float, N: Size>(
    sums: &mut Sequence<Vector<f32, N>>,
    map: &Tensor<Vector<E, N>>,
    place: usize,
    #[comptime] vectors: usize,
) {
    #[unroll]
    for c in 0..vectors {
        sums[c] += Vector::cast_from(map[place + c * map.stride(3)]);
    }
}

#[cube]
pub(super) fn scale<N: Size>(
    sums: &mut Sequence<Vector<f32, N>>,
    factor: f32,
    #[comptime] vectors: usize,
) {
    let factor = Vector::<f32, N>::new(factor);
    #[unroll]
    for c in 0..vectors {
        sums[c] *= factor;
    }
}

#[cube]
pub(super) fn write<E: Float, N: Size>(
    map: &mut Tensor<Vector<E, N>>,
    place: usize,
    sums: &Sequence<Vector<f32, N>>,
    factor: f32,
    #[comptime] vectors: usize,
) {
    let step = map.stride(3);
    #[unroll]
    for c in 0..vectors {
        map[place + c * step] = Vector::cast_from(sums[c] * Vector::new(factor));
    }
}
