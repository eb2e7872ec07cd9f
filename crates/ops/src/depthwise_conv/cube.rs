//! The fused passes on a GPU, channels last.

#![allow(unsafe_code, reason = "kernels are launched without checks of their indices")]

pub(crate) mod autodiff;
mod kernel;

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;

use crate::gpu::{Launch, elem_type, empty, rows_per_unit, sum_partial, vector_size};

/// What the kernel does beside the convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvolveOptions {
    /// Adds the bias; without, any tensor can stand in its place.
    pub bias: bool,
    /// Adds the residual; without, any tensor can stand in its place.
    pub residual: bool,
    /// Turns the kernel by 180°, as the gradient of the input needs it.
    pub turned: bool,
}

/// See [`depthwise_conv_add`](fn@crate::depthwise_conv_add).
pub(crate) fn forward(
    x: CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    residual: CubeTensor,
    options: ConvolveOptions,
) -> CubeTensor {
    let output = empty(&x, x.shape(), x.dtype);
    convolve(x, weight, bias, residual, output.clone(), 0, options);
    output
}

/// Writes the gradient of the input into the channels of a map from `channel` on.
pub(crate) fn input_gradient(
    weight: CubeTensor,
    grad: CubeTensor,
    output: CubeTensor,
    channel: usize,
) {
    let options = ConvolveOptions { bias: false, residual: false, turned: true };
    convolve(grad.clone(), weight, grad.clone(), grad, output, channel, options);
}

fn convolve(
    x: CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    residual: CubeTensor,
    output: CubeTensor,
    channel: usize,
    options: ConvolveOptions,
) {
    let [batch, height, width, channels] = x.shape().dims();
    let [_, _, size, _] = weight.shape().dims();
    // [size * size, channels], so that neighbouring channels are neighbours in memory.
    let weight = into_contiguous(CubeBackend::float_permute(weight, &[2, 3, 0, 1]));
    let weight = CubeBackend::float_reshape(weight, Shape::new([size * size, channels]));
    let mut tensors = vec![&x, &weight, &output];
    tensors.extend(options.bias.then_some(&bias));
    tensors.extend(options.residual.then_some(&residual));
    let vectors = vector_size(&tensors, channels);
    let units = batch * height * width.div_ceil(kernel::STRIP) * (channels / vectors);
    let launch = Launch::new(&tensors, units);
    let types = [elem_type(&x), elem_type(&weight)];
    // SAFETY: the operator has checked the shapes, from which follows what the kernel reads and writes.
    unsafe {
        kernel::convolve::launch_unchecked(
            &x.client.clone(),
            launch.count,
            launch.dim,
            launch.address_type,
            vectors,
            x.clone().into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            if options.bias { bias } else { weight.clone() }.into_tensor_arg(),
            if options.residual { residual } else { x }.into_tensor_arg(),
            output.into_tensor_arg(),
            channel as u32,
            size,
            options.bias,
            options.residual,
            options.turned,
            types,
        );
    }
}

/// Gradients of weight and bias.
pub(crate) fn parameter_gradients(
    x: CubeTensor,
    weight: CubeTensor,
    grad: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let [batch, height, _, channels] = x.shape().dims();
    let [_, _, size, _] = weight.shape().dims();
    let rows = rows_per_unit(batch * height);
    let chunks = (batch * height).div_ceil(rows);
    let partial = empty(&x, Shape::new([chunks, size * size + 1, channels]), DType::F32);
    let tensors = [&x, &grad, &partial];
    let vectors = vector_size(&tensors, channels);
    let launch = Launch::new(&tensors, chunks * size * (channels / vectors));
    // SAFETY: as in the forward pass.
    unsafe {
        let types = elem_type(&x);
        kernel::correlate::launch_unchecked(
            &x.client.clone(),
            launch.count,
            launch.dim,
            launch.address_type,
            vectors,
            x.into_tensor_arg(),
            grad.into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            rows as u32,
            size,
            types,
        );
    }
    let sums = cast(sum_partial(partial), weight.dtype); // [size * size + 1, channels]
    let row = |rows: Range<usize>| CubeBackend::float_slice(sums.clone(), &[Slice::from(rows)]);
    let taps = CubeBackend::float_swap_dims(row(0..size * size), 0, 1);
    let bias = row(size * size..size * size + 1);
    (
        CubeBackend::float_reshape(taps, weight.shape()),
        CubeBackend::float_reshape(bias, Shape::new([channels])),
    )
}
