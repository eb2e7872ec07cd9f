//! The extension of Burn's GPU backends, which are one backend, `Cube`: fused operators without
//! gradients. Under autodiff, and for all other operators, the definitions run.
//!
//! Beside [`OpsBackend`](crate::OpsBackend) and not a part of it, because region graphs stay on the GPU
//! here: the CPU's kernels take them as plain numbers, and reading them back would stop the GPU in
//! every block.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, DispatchDevice, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;

use crate::{RegionGrid, RoutedAttentionOptions, routed_attention::cube};

/// The fused operators of GPUs. Shapes and meaning stand at the public functions of the same names.
#[backend_extension(Cube, Fusion)]
pub trait GpuBackend: Backend {
    /// See [`routed_attention`](fn@crate::routed_attention).
    #[fusion(dtype = query, shape = query)]
    fn gpu_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> FloatTensor<Self>;
}

impl GpuBackend for CubeBackend {
    fn gpu_routed_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        region_graph: IntTensor<Self>,
        grid: RegionGrid,
        options: RoutedAttentionOptions,
    ) -> FloatTensor<Self> {
        cube::forward(query, key, value, region_graph, &grid, &options)
    }
}

/// Whether the fused operators of GPUs can take this tensor.
pub(crate) fn is_gpu_f32<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && matches!(x.device().as_dispatch(), DispatchDevice::Cube(_))
}
