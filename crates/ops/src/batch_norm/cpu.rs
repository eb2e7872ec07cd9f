//! Batch normalisation of float32 matrices: sums down the columns, then number by number.

#![allow(unsafe_code, reason = "tasks write their rows of one output")]

use burn::backend::flex::FlexTensor;

use crate::columns::{Product, Square, Value, column_sums};
use crate::flex::{contiguous, tensor, values};
use crate::parallel::{Target, for_each, part, tasks};
use crate::simd::{Simd, WithSimd, dispatch, load_some, mul_add, store_some};

/// Numbers of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 15;

/// Means, then biased variances.
pub(crate) fn moments(x: &FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    let [rows, channels] = dims(&x);
    let mut moments = column_sums(Value(values(&x)), channels);
    moments.iter_mut().for_each(|sum| *sum /= rows as f32);
    // Around the mean, not from the squares: those cancel in float32.
    let squares = column_sums(Square { x: values(&x), center: &moments }, channels);
    moments.extend(squares.into_iter().map(|sum| sum / rows as f32));
    tensor(moments, [2, channels])
}

/// See [`batch_norm`](fn@crate::batch_norm).
pub(crate) fn forward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    moments: &FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
    let channels = values(&gamma).len();
    let (mean, variance) = values(moments).split_at(channels);
    let scale: Vec<f32> = scales(values(&gamma), variance, epsilon).collect();
    let affine = Affine { center: mean, slope: &scale, shift: values(&beta) };
    map(&x, None, affine)
}

/// Gradients of x, gamma and beta.
///
/// With c = x − mean, n positions and s = gamma / √(variance + epsilon):
/// dgamma = Σ grad · c / √(variance + epsilon), dbeta = Σ grad and
/// dx = s · (grad − dbeta / n − c · Σ (grad · c) / (n · (variance + epsilon))).
pub(crate) fn backward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    moments: &FlexTensor,
    grad: &FlexTensor,
    epsilon: f64,
) -> [FlexTensor; 3] {
    let (x, gamma, grad) = (contiguous(x), contiguous(gamma), contiguous(grad));
    let [rows, channels] = dims(&x);
    let (mean, variance) = values(moments).split_at(channels);
    let sums = column_sums(Value(values(&grad)), channels);
    let products = Product { x: values(&x), center: mean, y: values(&grad) };
    let products = column_sums(products, channels);
    let scale: Vec<f32> = scales(values(&gamma), variance, epsilon).collect();
    let n = rows as f32;
    let deviations = variance.iter().map(|variance| variance + epsilon as f32);
    let slope = products.iter().zip(deviations.clone()).zip(&scale);
    let slope: Vec<f32> = slope.map(|((sum, square), s)| -s * sum / (n * square)).collect();
    let shift: Vec<f32> = sums.iter().zip(&scale).map(|(sum, s)| -s * sum / n).collect();
    let of_gamma = products.iter().zip(deviations).map(|(sum, square)| sum / square.sqrt());
    let affine = Affine { center: mean, slope: &slope, shift: &shift };
    [
        map(&x, Some((&grad, &scale)), affine),
        tensor(of_gamma.collect(), [channels]),
        tensor(sums, [channels]),
    ]
}

/// gamma / √(variance + epsilon)
fn scales(gamma: &[f32], variance: &[f32], epsilon: f64) -> impl Iterator<Item = f32> {
    gamma
        .iter()
        .zip(variance)
        .map(move |(gamma, variance)| gamma / (variance + epsilon as f32).sqrt())
}

/// (x − center) · slope + shift, by columns.
#[derive(Clone, Copy)]
struct Affine<'a> {
    center: &'a [f32],
    slope: &'a [f32],
    shift: &'a [f32],
}

/// `affine` of x; plus other · scale.
fn map(x: &FlexTensor, plus: Option<(&FlexTensor, &[f32])>, affine: Affine) -> FlexTensor {
    let (numbers, [rows, channels]) = (values(x), dims(x));
    let mut output: Vec<f32> = Vec::with_capacity(rows * channels);
    let target = Target::new(output.as_mut_ptr());
    let tasks = tasks(numbers.len(), TASK);
    for_each(tasks, |task| {
        let range = part(rows, tasks, task);
        let range = range.start * channels..range.end * channels;
        let plus = plus.map(|(other, scale)| (&values(other)[range.clone()], scale));
        let out = target.at(range.start);
        dispatch(Map { x: &numbers[range], plus, affine, out });
    });
    // SAFETY: the tasks wrote all rows.
    unsafe { output.set_len(rows * channels) };
    tensor(output, x.layout().shape().as_slice())
}

struct Map<'a> {
    x: &'a [f32],
    plus: Option<(&'a [f32], &'a [f32])>,
    affine: Affine<'a>,
    /// As long as `x`.
    out: *mut f32,
}

impl WithSimd for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, plus, affine: Affine { center, slope, shift }, out } = self;
        let channels = center.len();
        assert!(slope.len() == channels && shift.len() == channels);
        assert!(
            plus.is_none_or(|(other, scale)| other.len() == x.len() && scale.len() == channels)
        );
        for row in (0..x.len()).step_by(channels.max(1)) {
            for column in (0..channels).step_by(S::F32_LANES) {
                let (index, count) = (row + column, channels - column);
                // SAFETY: a vector of the columns that are left starts here, and the rows of `out`
                // belong to this task.
                unsafe {
                    let of_column =
                        |values: &[f32]| load_some(simd, values.as_ptr().add(column), count);
                    let centred = simd
                        .sub_f32s(load_some(simd, x.as_ptr().add(index), count), of_column(center));
                    let mut y = mul_add(simd, centred, of_column(slope), of_column(shift));
                    if let Some((other, scale)) = plus {
                        let other = load_some(simd, other.as_ptr().add(index), count);
                        y = mul_add(simd, other, of_column(scale), y);
                    }
                    store_some(simd, out.add(index), y, count);
                }
            }
        }
    }
}

fn dims(x: &FlexTensor) -> [usize; 2] {
    x.layout().shape().as_slice().try_into().expect("a matrix")
}
