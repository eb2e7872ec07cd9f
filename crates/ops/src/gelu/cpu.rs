//! GELU of float32, vectorised: one task = some tens of thousands of numbers.

#![allow(unsafe_code, reason = "tasks write their numbers of one output")]

use std::ops::Range;

use burn::backend::flex::FlexTensor;

use crate::flex::{contiguous, tensor, values};
use crate::math;
use crate::parallel::{Target, for_each, part, tasks};
use crate::simd::{Simd, WithSimd, dispatch, store, store_some};

/// Numbers of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 14;

/// See [`gelu`](fn@crate::gelu).
pub(crate) fn forward(x: &FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    let numbers = values(&x);
    let output = write(numbers.len(), |range, output| {
        dispatch(Forward { x: &numbers[range], output });
    });
    tensor(output, x.layout().shape().as_slice())
}

/// Gradient of the input: grad · (Φ(x) + x φ(x)).
pub(crate) fn backward(x: &FlexTensor, grad: &FlexTensor) -> FlexTensor {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let (numbers, grad) = (values(&x), values(&grad));
    assert_eq!(numbers.len(), grad.len(), "gelu: gradient of another shape");
    let output = write(numbers.len(), |range, output| {
        dispatch(Backward { x: &numbers[range.clone()], grad: &grad[range], output });
    });
    tensor(output, x.layout().shape().as_slice())
}

/// A vector that `task` fills, a range at a time, from the number that it is given.
fn write(len: usize, task: impl Fn(Range<usize>, *mut f32) + Sync + Send) -> Vec<f32> {
    let mut output: Vec<f32> = Vec::with_capacity(len);
    let target = Target::new(output.as_mut_ptr());
    let count = tasks(len, TASK);
    for_each(count, |index| {
        let range = part(len, count, index);
        let output = target.at(range.start);
        task(range, output);
    });
    // SAFETY: the tasks wrote all of it.
    unsafe { output.set_len(len) };
    output
}

struct Forward<'a> {
    x: &'a [f32],
    /// As long as `x`.
    output: *mut f32,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_simd_f32s(self.x);
        let mut output = self.output;
        for x in vectors {
            // SAFETY: the output is as long as the input.
            unsafe { store(simd, output, math::gelu(simd, *x)) };
            output = output.wrapping_add(S::F32_LANES);
        }
        let y = math::gelu(simd, simd.partial_load_f32s(rest));
        // SAFETY: as above.
        unsafe { store_some(simd, output, y, rest.len()) };
    }
}

struct Backward<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    /// As long as `x`.
    output: *mut f32,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_simd_f32s(self.x);
        let (grads, grad_rest) = S::as_simd_f32s(self.grad);
        let mut output = self.output;
        for (x, grad) in vectors.iter().zip(grads) {
            let dx = simd.mul_f32s(*grad, math::gelu_derivative(simd, *x));
            // SAFETY: the output is as long as the input.
            unsafe { store(simd, output, dx) };
            output = output.wrapping_add(S::F32_LANES);
        }
        let slope = math::gelu_derivative(simd, simd.partial_load_f32s(rest));
        let dx = simd.mul_f32s(simd.partial_load_f32s(grad_rest), slope);
        // SAFETY: as above.
        unsafe { store_some(simd, output, dx, rest.len()) };
    }
}
