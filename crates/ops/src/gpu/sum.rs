//! Sums in two steps, whose order is the same in each run: Burn's own is what its tuning chooses.

#![allow(unsafe_code, reason = "the kernel is launched without checks of its indices")]

use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Launch, elem_type, empty};

/// Summands that a first step is to leave at most, and that one of its units is to add at least.
const SUMMANDS: usize = 512;
const ROWS: usize = 16;

/// How many of `rows` one unit of a first step is to add: neither few units nor many summands.
pub(crate) fn rows_per_unit(rows: usize) -> usize {
    rows.div_ceil(SUMMANDS).max(ROWS)
}

/// What the units of a first step have left, added over the first axis.
pub(crate) fn sum_partial(partial: CubeTensor) -> CubeTensor {
    let shape = partial.shape();
    let sums = empty(&partial, Shape::from(shape[1..].to_vec()), partial.dtype);
    let launch = Launch::new(&[&partial, &sums], sums.shape().num_elements());
    // SAFETY: both are contiguous, and one has the elements of the other's other axes.
    unsafe {
        let types = elem_type(&partial);
        sum_rows::launch_unchecked(
            &partial.client.clone(),
            launch.count,
            launch.dim,
            launch.address_type,
            partial.into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            types,
        );
    }
    sums
}

/// One unit = one sum.
///
/// # Shapes
/// - partial: `[summands, ..]`, contiguous
/// - sums: `[..]`
#[cube(launch_unchecked, address_type = "dynamic")]
fn sum_rows<E: Float>(partial: &Tensor<E>, sums: &mut Tensor<E>, #[define(E)] _type: ElemType) {
    let count = sums.len();
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let mut sum = E::from_int(0);
    for row in 0..partial.shape(0) {
        sum += partial[row * count + ABSOLUTE_POS];
    }
    sums[ABSOLUTE_POS] = sum;
}
