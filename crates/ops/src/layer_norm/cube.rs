//! The fused passes on a GPU.

#![allow(unsafe_code, reason = "kernels are launched without checks of their indices")]

pub(crate) mod autodiff;
mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::features::Plane;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;

use crate::gpu::{Launch, elem_type, empty, rows_per_unit, sum_partial, vector_size};

/// See [`layer_norm_as`](fn@crate::layer_norm_as).
pub(crate) fn forward(
    x: CubeTensor,
    gamma: CubeTensor,
    beta: CubeTensor,
    epsilon: f64,
    dtype: DType,
) -> CubeTensor {
    let x = into_contiguous(x);
    let channels = channels(&x);
    let output = empty(&x, x.shape(), dtype);
    let tensors = [&x, &gamma, &beta, &output];
    let vectors = vector_size(&tensors, channels);
    let has_planes = has_planes(&x);
    let launch = Launch::new(&tensors, x.shape().num_elements() / channels * row_units(&x));
    // SAFETY: the operator has checked the shapes, from which follows what the kernel reads and writes.
    unsafe {
        let types = [elem_type(&x), elem_type(&output)];
        kernel::normalize::launch_unchecked(
            &x.client.clone(),
            launch.count,
            launch.dim,
            launch.address_type,
            vectors,
            x.into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            epsilon as f32,
            has_planes,
            types,
        );
    }
    output
}

/// Gradients of x, gamma and beta.
pub(crate) fn backward(
    x: CubeTensor,
    gamma: CubeTensor,
    grad: CubeTensor,
    epsilon: f64,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let (x, grad) = (into_contiguous(x), into_contiguous(grad));
    let (channels, types) = (channels(&x), [elem_type(&x), elem_type(&grad)]);
    let rows = x.shape().num_elements() / channels;
    let client = x.client.clone();
    let grad_x = empty(&x, x.shape(), x.dtype);
    let moments = empty(&x, Shape::new([rows, 2]), DType::F32);
    let tensors = [&x, &gamma, &grad, &grad_x];
    let has_planes = has_planes(&x);
    let launch = Launch::new(&tensors, rows * row_units(&x));
    // SAFETY: as in the forward pass.
    unsafe {
        kernel::input_gradient::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            vector_size(&tensors, channels),
            x.clone().into_tensor_arg(),
            gamma.clone().into_tensor_arg(),
            grad.clone().into_tensor_arg(),
            grad_x.clone().into_tensor_arg(),
            moments.clone().into_tensor_arg(),
            epsilon as f32,
            has_planes,
            types,
        );
    }

    let chunk = rows_per_unit(rows);
    let chunks = rows.div_ceil(chunk);
    let partial = empty(&x, Shape::new([chunks, 2, channels]), DType::F32);
    let tensors = [&x, &grad, &partial];
    let vectors = vector_size(&tensors, channels);
    let launch = Launch::new(&tensors, chunks * (channels / vectors));
    // SAFETY: as in the forward pass.
    unsafe {
        kernel::parameter_gradients::launch_unchecked(
            &client,
            launch.count,
            launch.dim,
            launch.address_type,
            vectors,
            x.into_tensor_arg(),
            grad.into_tensor_arg(),
            moments.into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            chunk as u32,
            types,
        );
    }
    let sums = cast(sum_partial(partial), gamma.dtype); // [2, channels]
    let [grad_gamma, grad_beta] = [0, 1].map(|row| {
        let row = CubeBackend::float_slice(sums.clone(), &[Slice::from(row..row + 1)]);
        CubeBackend::float_reshape(row, Shape::new([channels]))
    });
    (grad_x, grad_gamma, grad_beta)
}

fn channels(x: &CubeTensor) -> usize {
    let shape = x.shape();
    shape[shape.num_dims() - 1]
}

/// Whether the units of a plane can add what they have.
fn has_planes(x: &CubeTensor) -> bool {
    x.client.features().plane.contains(Plane::Ops)
}

/// Units that share a row.
fn row_units(x: &CubeTensor) -> usize {
    if has_planes(x) { x.client.properties().hardware.plane_size_max as usize } else { 1 }
}
