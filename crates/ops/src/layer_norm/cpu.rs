//! Layer normalisation of float32 rows: which task does what.
//!
//! Rows are independent, so that any cut gives the same output. For the gradients of gamma
//! and beta the rows are cut into chunks by the shape alone, and the sums of the chunks are added
//! in order.

#![allow(unsafe_code, reason = "tasks write their rows of one output")]

use burn::backend::flex::FlexTensor;

use super::row;
use crate::flex::{contiguous, tensor, values};
use crate::parallel::{Target, for_each, part, tasks};
use crate::simd::{Simd, WithSimd, dispatch};

/// Numbers of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 16;
/// Numbers of a chunk: enough that adding up the chunks is nothing beside them.
const CHUNK: usize = 1 << 15;

/// See [`layer_norm`](fn@crate::layer_norm).
pub(crate) fn forward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
    let (numbers, scales) = (values(&x), [values(&gamma), values(&beta)]);
    let channels = scales[0].len();
    let rows = numbers.len() / channels.max(1);
    let mut output: Vec<f32> = Vec::with_capacity(rows * channels);
    let target = Target::new(output.as_mut_ptr());
    let tasks = tasks(numbers.len(), TASK);
    for_each(tasks, |task| {
        let rows = part(rows, tasks, task);
        let out = target.at(rows.start * channels);
        let x = &numbers[rows.start * channels..rows.end * channels];
        dispatch(Forward { x, scales, epsilon: epsilon as f32, out });
    });
    // SAFETY: the tasks wrote all rows.
    unsafe { output.set_len(rows * channels) };
    tensor(output, x.layout().shape().as_slice())
}

/// Gradients of x, gamma and beta.
pub(crate) fn backward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    grad: &FlexTensor,
    epsilon: f64,
) -> [FlexTensor; 3] {
    let (x, gamma, grad) = (contiguous(x), contiguous(gamma), contiguous(grad));
    let channels = values(&gamma).len();
    let rows = values(&x).len() / channels.max(1);
    let chunks = (rows * channels).div_ceil(CHUNK);
    let mut output: Vec<f32> = Vec::with_capacity(rows * channels);
    let mut sums = vec![0.0; 2 * channels * chunks.max(1)];
    let (target, parts) = (Target::new(output.as_mut_ptr()), Target::new(sums.as_mut_ptr()));
    for_each(chunks, |chunk| {
        let rows = part(rows, chunks, chunk);
        let out = target.at(rows.start * channels);
        let sums = parts.at(2 * channels * chunk);
        // SAFETY: each chunk has its own sums.
        let sums = unsafe { std::slice::from_raw_parts_mut(sums, 2 * channels) };
        let range = rows.start * channels..rows.end * channels;
        dispatch(Backward {
            x: &values(&x)[range.clone()],
            gamma: values(&gamma),
            grad: &values(&grad)[range],
            epsilon: epsilon as f32,
            sums,
            out,
        });
    });
    // SAFETY: the chunks wrote all rows.
    unsafe { output.set_len(rows * channels) };
    let (total, others) = sums.split_at_mut(2 * channels);
    for chunk in others.chunks_exact((2 * channels).max(1)) {
        for (sum, value) in total.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    let [of_gamma, of_beta] = [&total[..channels], &total[channels..]].map(<[f32]>::to_vec);
    let shape = x.layout().shape().as_slice();
    [tensor(output, shape), tensor(of_gamma, [channels]), tensor(of_beta, [channels])]
}

/// Normalised rows of `gamma.len()` numbers each.
pub(crate) fn normalize_rows(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "normalize_rows");
    dispatch(Forward { x, scales: [gamma, beta], epsilon, out: out.as_mut_ptr() });
}

/// Rows behind each other.
struct Forward<'a> {
    x: &'a [f32],
    /// Gamma and beta.
    scales: [&'a [f32]; 2],
    epsilon: f32,
    /// As long as `x`.
    out: *mut f32,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.scales[0].len().max(1);
        for (i, x) in self.x.chunks_exact(channels).enumerate() {
            // SAFETY: the rows belong to this task.
            unsafe {
                row::normalize(simd, x, self.scales, self.epsilon, self.out.add(i * channels))
            };
        }
    }
}

struct Backward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    grad: &'a [f32],
    epsilon: f32,
    /// Of gamma, then of beta.
    sums: &'a mut [f32],
    /// As long as `x`.
    out: *mut f32,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.gamma.len().max(1);
        let (of_gamma, of_beta) = self.sums.split_at_mut(self.gamma.len());
        let rows = self.x.chunks_exact(channels).zip(self.grad.chunks_exact(channels));
        for (i, (x, grad)) in rows.enumerate() {
            let sums = [&mut *of_gamma, &mut *of_beta];
            let out = self.out.wrapping_add(i * channels);
            // SAFETY: the rows belong to this task.
            unsafe { row::backward(simd, [x, self.gamma, grad], self.epsilon, sums, out) };
        }
    }
}
