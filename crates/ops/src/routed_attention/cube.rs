//! The fused forward pass on a GPU: what to launch for which shapes. The kernel itself stands in
//! `kernel.rs`.

#![allow(unsafe_code, reason = "the kernel is launched without checks of its indices")]

mod kernel;

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::{AddressType, CubeDim};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::RoutedAttentionOptions;
use crate::RegionGrid;

/// Channels of a head above which a unit's registers overflow.
pub(crate) const MAX_HEAD_DIM: usize = 128;

/// Units of a cube: two planes of most GPUs.
const UNITS: u32 = 64;

/// See [`routed_attention`](fn@crate::routed_attention); heads of at most [`MAX_HEAD_DIM`] channels.
pub(crate) fn forward(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    region_graph: CubeTensor,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> CubeTensor {
    let [batch, _, _, channels] = query.shape().dims();
    let [_, regions, _] = region_graph.shape().dims();
    let shapes = [&query, &key, &value].map(|map| map.shape().dims());
    check(shapes, region_graph.shape().dims(), grid);
    assert!([&query, &key, &value].into_iter().all(|map| map.dtype == DType::F32));
    let (client, tokens) = (query.client.clone(), grid.tokens());
    let head_dim = channels / options.num_heads;
    let output =
        empty_device_dtype(client.clone(), query.device.clone(), query.shape(), DType::F32);

    let queries = batch * regions * options.num_heads * tokens;
    let cube_dim = CubeDim::new_1d(UNITS);
    let tensors = [&query, &key, &value, &region_graph, &output];
    let address_type = tensors.map(CubeTensor::required_address_type).into_iter().max();
    let index = burn::backend::cubecl::dtype_to_storage_type(region_graph.dtype);
    // SAFETY: the shapes agree, the kernel keeps routed regions within the map, and its reads and
    // writes follow from both.
    unsafe {
        kernel::attend::launch_unchecked(
            &client,
            calculate_cube_count_elemwise(&client, queries, cube_dim),
            cube_dim,
            address_type.unwrap_or(AddressType::U32),
            query.into_tensor_arg(),
            key.into_tensor_arg(),
            value.into_tensor_arg(),
            region_graph.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            options.scale as f32,
            grid.cols as u32,
            grid.region_height as u32,
            grid.region_width as u32,
            grid.height as u32,
            grid.width as u32,
            head_dim,
            options.mask_padding && grid.is_padded(),
            index,
        );
    }
    output
}

/// Panics if the shapes do not belong together.
pub(crate) fn check(qkv: [[usize; 4]; 3], region_graph: [usize; 3], grid: &RegionGrid) {
    let [[batch, height, width, _], key, value] = qkv;
    let [graphs, regions, topk] = region_graph;
    assert_eq!([height, width], grid.padded_size(), "routed_attention: size of the map");
    assert_eq!([key, value], [qkv[0]; 2], "routed_attention: key and value");
    assert_eq!([graphs, regions], [batch, grid.regions()], "routed_attention: graph");
    assert!(topk > 0, "routed_attention: got topk 0, expected at least 1");
}
