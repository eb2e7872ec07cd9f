//! Where the numbers of a map are, `[batch, height, width, channels]` of any strides, in vectors.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Index of the first vector of an image, from a channel on.
#[cube]
pub(crate) fn start<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    image: usize,
    channel: usize,
) -> usize {
    (image * map.stride(0) + channel * map.stride(3)) / map.vector_size()
}

/// Index of the first vector of a token, from [`start`].
#[cube]
pub(crate) fn at<E: Float, N: Size>(
    map: &Tensor<Vector<E, N>>,
    start: usize,
    y: usize,
    x: usize,
) -> usize {
    start + (y * map.stride(1) + x * map.stride(2)) / map.vector_size()
}

/// Sums in registers, to add to.
#[cube]
pub(crate) fn zeros<N: Size>(#[comptime] vectors: usize) -> Sequence<Vector<f32, N>> {
    let mut sums = Sequence::<Vector<f32, N>>::new();
    #[unroll]
    for _ in 0..vectors {
        #[allow(unused_mut, reason = "it is when the kernel runs")]
        let mut zero = Vector::<f32, N>::new(0.0f32);
        sums.push(zero);
    }
    sums
}
