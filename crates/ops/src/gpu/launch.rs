//! What all launches of kernels need.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::{AddressType, CubeCount, CubeDim, ElemType};
use burn_cubecl::cubecl::{calculate_cube_count_elemwise, tensor_vector_size_parallel};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

/// Units of a cube: two planes of most GPUs.
const UNITS: u32 = 64;

/// Stands for −∞, which not every shader language can write.
pub(crate) const LOWEST: f32 = -3.0e38;

/// How to launch a kernel in which one unit computes one thing.
pub(crate) struct Launch {
    pub count: CubeCount,
    pub dim: CubeDim,
    pub address_type: AddressType,
}

impl Launch {
    pub fn new(tensors: &[&CubeTensor], units: usize) -> Self {
        let dim = CubeDim::new_1d(UNITS);
        Self::of_cubes(tensors, units.div_ceil(dim.num_elems() as usize), dim)
    }

    /// At least so many cubes: no dimension of their numbers may be too large for the device.
    pub fn of_cubes(tensors: &[&CubeTensor], cubes: usize, dim: CubeDim) -> Self {
        let units = cubes * dim.num_elems() as usize;
        let address_type = tensors.iter().map(|tensor| tensor.required_address_type()).max();
        Self {
            count: calculate_cube_count_elemwise(&tensors[0].client, units, dim),
            dim,
            address_type: address_type.unwrap_or(AddressType::U32),
        }
    }
}

/// A tensor on the device of another, of any content.
pub(crate) fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

pub(crate) fn elem_type(tensor: &CubeTensor) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(tensor.dtype)
}

/// Channels that kernels can move at once from and to each of these maps, in groups of `channels`.
pub(crate) fn vector_size(maps: &[&CubeTensor], channels: usize) -> usize {
    let sizes = maps.iter().map(|map| {
        let sizes = map.client.io_optimized_vector_sizes(map.dtype.size());
        let axis = map.shape().num_dims() - 1;
        let divisors = sizes.filter(|size| channels.is_multiple_of(*size));
        tensor_vector_size_parallel(divisors, &map.shape(), map.meta.strides(), axis)
    });
    sizes.min().unwrap_or(1)
}
