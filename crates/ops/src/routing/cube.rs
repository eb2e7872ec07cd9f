//! The region graph on a GPU in three launches: means of the regions, affinities, top-k.

#![allow(unsafe_code, reason = "kernels are launched without checks of their indices")]

mod kernel;

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::RoutingOptions;
use crate::RegionGrid;
use crate::gpu::{Grid, Launch, elem_type, empty, vector_size};

/// Shape of the graph.
pub(crate) fn graph_shape(batch: usize, grid: &RegionGrid, options: &RoutingOptions) -> Shape {
    Shape::new([batch, grid.regions(), options.topk.min(grid.regions())])
}

/// See [`route`](fn@crate::route); the graph has 32 bits a number.
pub(crate) fn route(
    query: CubeTensor,
    key: CubeTensor,
    grid: &RegionGrid,
    options: &RoutingOptions,
) -> CubeTensor {
    let client = query.client.clone();
    let [batch, height, width, channels] = query.shape().dims();
    assert_eq!(key.shape(), query.shape(), "route: shape of the key");
    assert_eq!([height, width], grid.padded_size(), "route: size of the map");
    assert_eq!(key.dtype, query.dtype, "route: type of the key");
    let regions = grid.regions();
    let means = empty(&query, Shape::new([2, batch, regions, channels]), DType::F32);
    let tensors = [&query, &key, &means];
    let vectors = vector_size(&tensors, channels);
    let launch = Launch::new(&tensors, 2 * batch * regions * (channels / vectors));
    let exclude_padding = (options.exclude_padding || options.mask_padding) && grid.is_padded();
    // SAFETY: what the kernel reads and writes follows from the shapes, which agree.
    unsafe {
        let types = elem_type(&query);
        kernel::region_means::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            vectors,
            query.clone().into_tensor_arg(),
            key.into_tensor_arg(),
            means.clone().into_tensor_arg(),
            Grid::launch(grid),
            exclude_padding,
            types,
        );
    }

    let affinity = empty(&query, Shape::new([batch, regions, regions]), DType::F32);
    let graph = empty(&query, graph_shape(batch, grid, options), DType::I32);
    let launch = Launch::new(&[&means, &affinity, &graph], batch * regions * regions);
    // SAFETY: as above; ranks differ, so that every number of the graph is written by one unit.
    unsafe {
        kernel::affinity::launch_unchecked(
            &client,
            launch.count.clone(),
            launch.dim,
            launch.address_type,
            vector_size(&[&means], channels),
            means.into_tensor_arg(),
            affinity.clone().into_tensor_arg(),
            Grid::launch(grid),
            options.mask_padding && grid.is_padded(),
        );
        kernel::topk::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            affinity.into_tensor_arg(),
            graph.clone().into_tensor_arg(),
        );
    }
    graph
}
