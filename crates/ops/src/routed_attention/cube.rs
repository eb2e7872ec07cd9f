//! The fused passes on a GPU: what to launch for which shapes. The kernels stand in `forward.rs` and
//! `backward.rs`.

#![allow(unsafe_code, reason = "kernels are launched without checks of their indices")]

pub(crate) mod autodiff;
mod backward;
mod forward;
mod forward_tiles;
mod heads;
mod tiles;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::ElemType;
use burn_cubecl::tensor::CubeTensor;

use self::tiles::Tiles;
use super::RoutedAttentionOptions;
use crate::RegionGrid;
use crate::depthwise_conv::{self, cube::ConvolveOptions};
use crate::gpu::{Grid, Launch, elem_type, empty, vector_size};

/// Channels of a head above which a unit's registers overflow.
pub(crate) const MAX_HEAD_DIM: usize = 128;

/// See [`routed_attention`](fn@crate::routed_attention); heads of at most [`MAX_HEAD_DIM`] channels.
pub(crate) fn forward(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    region_graph: CubeTensor,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> CubeTensor {
    let call = Call::new([&query, &key, &value], &region_graph, grid, options);
    let output = empty(&query, query.shape(), query.dtype);
    let tensors = [&query, &key, &value, &region_graph, &output];
    let vectors = vector_size(&[&query, &key, &value, &output], call.head_dim);
    let [batch, regions, topk] = region_graph.shape().dims();
    let tokens = grid.region_height * grid.region_width;
    let client = query.client.clone();
    if let Some(tiles) = Tiles::new(&client, call.float, call.head_dim, tokens, topk * tokens) {
        let cubes = batch * regions * options.num_heads * tokens.div_ceil(tiles.rows());
        let launch = Launch::of_cubes(&tensors, cubes, tiles.dim());
        // SAFETY: the shapes agree, the kernel keeps routed regions within the map, and its reads and
        // writes follow from both.
        unsafe {
            forward_tiles::attend_tiles::launch_unchecked(
                &client,
                launch.count,
                launch.dim,
                launch.address_type,
                vectors,
                query.into_tensor_arg(),
                key.into_tensor_arg(),
                value.into_tensor_arg(),
                region_graph.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                options.scale as f32,
                Grid::launch(grid),
                tiles,
                call.mask_padding,
                [call.float, call.index],
            );
        }
        return output;
    }
    let launch = Launch::new(&tensors, call.units);
    // SAFETY: as above.
    unsafe {
        forward::attend::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            vectors,
            query.into_tensor_arg(),
            key.into_tensor_arg(),
            value.into_tensor_arg(),
            region_graph.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            options.scale as f32,
            Grid::launch(grid),
            call.head_dim,
            call.mask_padding,
            [call.float, call.index],
        );
    }
    output
}

/// See [`routed_attention_lce`](fn@crate::routed_attention_lce): the output, and the attention in it.
pub(crate) fn forward_lce(
    qkv: CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    region_graph: CubeTensor,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> (CubeTensor, CubeTensor) {
    let [query, key, value] = split::<CubeBackend>(qkv);
    let attended = forward(query, key, value.clone(), region_graph, grid, options);
    let convolved = ConvolveOptions { bias: true, residual: true, turned: false };
    let output = depthwise_conv::cube::forward(value, weight, bias, attended.clone(), convolved);
    (output, attended)
}

/// Gradients of query, key and value, side by side.
pub(crate) fn backward(
    qkv: [CubeTensor; 3],
    region_graph: CubeTensor,
    output: CubeTensor,
    grad: CubeTensor,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> CubeTensor {
    let [batch, height, width, channels] = qkv[0].shape().dims();
    let shape = [batch, height, width, 3 * channels].into();
    let grad_qkv = empty(&qkv[0], shape, qkv[0].dtype);
    add_gradients(qkv, region_graph, output, grad, grad_qkv.clone(), false, grid, options);
    grad_qkv
}

/// Gradients of qkv, weight and bias of [`forward_lce`].
pub(crate) fn backward_lce(
    qkv: CubeTensor,
    weight: CubeTensor,
    region_graph: CubeTensor,
    attended: CubeTensor,
    grad: CubeTensor,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let grad_qkv = empty(&qkv, qkv.shape(), qkv.dtype);
    let qkv = split::<CubeBackend>(qkv);
    let [.., channels] = qkv[2].shape().dims::<4>();
    let (value, lce) = (qkv[2].clone(), weight.clone());
    depthwise_conv::cube::input_gradient(lce, grad.clone(), grad_qkv.clone(), 2 * channels);
    let (grad_weight, grad_bias) =
        depthwise_conv::cube::parameter_gradients(value, weight, grad.clone());
    add_gradients(qkv, region_graph, attended, grad, grad_qkv.clone(), true, grid, options);
    (grad_qkv, grad_weight, grad_bias)
}

/// Query, key and value of a map that has them side by side.
fn split<B: Backend>(qkv: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let [batch, height, width, channels] = qkv.shape().dims();
    let all = [batch, height, width].map(|size| Slice::from(0..size));
    [0, 1, 2].map(|i| {
        let part = Slice::from(i * (channels / 3)..(i + 1) * (channels / 3));
        B::float_slice(qkv.clone(), &[&all[..], &[part]].concat())
    })
}

/// Writes the gradients into `grad_qkv`, to whose part of the value that of the attention is added if
/// `adds_value`.
#[allow(clippy::too_many_arguments, reason = "what two kernels share")]
fn add_gradients(
    [query, key, value]: [CubeTensor; 3],
    region_graph: CubeTensor,
    output: CubeTensor,
    grad: CubeTensor,
    grad_qkv: CubeTensor,
    adds_value: bool,
    grid: &RegionGrid,
    options: &RoutedAttentionOptions,
) {
    let call = Call::new([&query, &key, &value], &region_graph, grid, options);
    let client = query.client.clone();
    let [batch, height, width, _] = query.shape().dims();
    let sums = empty(&query, [batch, height, width, options.num_heads, 2].into(), DType::F32);
    let maps = [&query, &key, &value, &output, &grad, &grad_qkv];
    let launch = Launch::new(&[&maps[..], &[&region_graph, &sums]].concat(), call.units);
    // SAFETY: as in the forward pass.
    unsafe {
        backward::query_gradient::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            vector_size(&maps, call.head_dim),
            query.clone().into_tensor_arg(),
            key.clone().into_tensor_arg(),
            value.clone().into_tensor_arg(),
            region_graph.clone().into_tensor_arg(),
            output.into_tensor_arg(),
            grad.clone().into_tensor_arg(),
            grad_qkv.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            options.scale as f32,
            Grid::launch(grid),
            call.head_dim,
            call.mask_padding,
            [call.float, call.index],
        );
    }

    let [_, regions, _] = region_graph.shape().dims();
    let attended = empty(&query, [batch, regions, regions].into(), DType::U32);
    let launch = Launch::new(&[&region_graph, &attended], batch * regions * regions);
    // SAFETY: as in the forward pass.
    unsafe {
        backward::invert::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            region_graph.into_tensor_arg(),
            attended.clone().into_tensor_arg(),
            call.index,
        );
    }

    let maps = [&query, &key, &value, &grad, &grad_qkv];
    let launch = Launch::new(&[&maps[..], &[&attended, &sums]].concat(), call.units);
    // SAFETY: as in the forward pass.
    unsafe {
        backward::key_value_gradients::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            vector_size(&maps, call.head_dim),
            query.into_tensor_arg(),
            key.into_tensor_arg(),
            value.into_tensor_arg(),
            attended.into_tensor_arg(),
            grad.into_tensor_arg(),
            sums.into_tensor_arg(),
            grad_qkv.into_tensor_arg(),
            options.scale as f32,
            Grid::launch(grid),
            call.head_dim,
            call.mask_padding,
            adds_value,
            call.float,
        );
    }
}

/// What all kernels need beside their tensors.
struct Call {
    /// One for each token and head.
    units: usize,
    head_dim: usize,
    mask_padding: bool,
    /// Types of the maps and of the graph.
    float: ElemType,
    index: ElemType,
}

impl Call {
    fn new(
        qkv: [&CubeTensor; 3],
        region_graph: &CubeTensor,
        grid: &RegionGrid,
        options: &RoutedAttentionOptions,
    ) -> Self {
        check(qkv.map(|map| map.shape().dims()), region_graph.shape().dims(), grid);
        let [batch, height, width, channels] = qkv[0].shape().dims();
        assert!(qkv.into_iter().all(|map| map.dtype == qkv[0].dtype), "routed_attention: types");
        Self {
            units: batch * height * width * options.num_heads,
            head_dim: channels / options.num_heads,
            mask_padding: options.mask_padding && grid.is_padded(),
            float: elem_type(qkv[0]),
            index: elem_type(region_graph),
        }
    }
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
