//! GELU of float32, vectorised.

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use rayon::prelude::*;

use crate::math;
use crate::simd::{Simd, WithSimd, dispatch};

/// Elements of a task: 64 KB in, 64 KB out.
const TASK: usize = 1 << 14;

/// See [`gelu`](fn@crate::gelu).
pub(crate) fn forward(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let values = values(&x);
    let mut output = vec![0.0; values.len()];
    let tasks = output.par_chunks_mut(TASK).zip(values.par_chunks(TASK));
    tasks.for_each(|(output, x)| dispatch(Forward { output, x }));
    FlexTensor::from_data(TensorData::new(output, x.layout().shape().clone()))
}

/// Gradient of the input: grad · (Φ(x) + x φ(x)).
pub(crate) fn backward(x: &FlexTensor, grad: &FlexTensor) -> FlexTensor {
    let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
    let mut output = values(&grad).to_vec();
    let tasks = output.par_chunks_mut(TASK).zip(values(&x).par_chunks(TASK));
    tasks.for_each(|(grad, x)| dispatch(Backward { grad, x }));
    FlexTensor::from_data(TensorData::new(output, x.layout().shape().clone()))
}

fn values(x: &FlexTensor) -> &[f32] {
    &x.storage()[x.layout().start_offset()..][..x.layout().num_elements()]
}

struct Forward<'a> {
    output: &'a mut [f32],
    x: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (output, x) in self.output.chunks_mut(S::F32_LANES).zip(self.x.chunks(S::F32_LANES)) {
            let y = math::gelu(simd, simd.partial_load_f32s(x));
            simd.partial_store_f32s(output, y);
        }
    }
}

/// Turns the gradient of the output into that of the input.
struct Backward<'a> {
    grad: &'a mut [f32],
    x: &'a [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (grad, x) in self.grad.chunks_mut(S::F32_LANES).zip(self.x.chunks(S::F32_LANES)) {
            let slope = math::gelu_derivative(simd, simd.partial_load_f32s(x));
            let product = simd.mul_f32s(simd.partial_load_f32s(grad), slope);
            simd.partial_store_f32s(grad, product);
        }
    }
}
