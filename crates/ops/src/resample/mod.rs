//! Maps of another size: each new row a weighted sum of old rows, then each new column one of old columns.

pub(crate) mod autodiff;
pub(crate) mod cpu;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::backend::{OpsBackend, is_cpu_f32};
use crate::profile::{self, Class};

/// How the tokens along one side become those of another: each new one a weighted sum of old ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Taps {
    old: usize,
    /// Old tokens and their weights, for each new one.
    sums: Vec<Vec<(usize, f32)>>,
}

impl Taps {
    /// Linear between the centres of tokens, the first and the last one continued (PyTorch's `bilinear` with
    /// `align_corners=False`).
    ///
    /// # Panics
    /// As all of these, if `old` is 0.
    pub fn linear(old: usize, new: usize) -> Self {
        let sum = |i: usize| {
            let place = ((i as f64 + 0.5) * old as f64 / new as f64 - 0.5).max(0.0);
            let (first, part) = (place as usize, place.fract() as f32);
            let last = old - 1;
            // Twice the same token at the end.
            vec![(first.min(last), 1.0 - part), ((first + 1).min(last), part)]
        };
        Self::new(old, new, sum)
    }

    /// Cubic convolution (Keys, 1981) between the centres of tokens, the first and the last one continued
    /// (PyTorch's `bicubic` with `align_corners=False` and without antialiasing).
    pub fn cubic(old: usize, new: usize) -> Self {
        let sum = |i: usize| {
            let place = (i as f64 + 0.5) * old as f64 / new as f64 - 0.5;
            let tap = |offset: i64| {
                let token = place.floor() as i64 + offset;
                let weight = cubic_kernel(place - token as f64) as f32;
                (token.clamp(0, old as i64 - 1) as usize, weight)
            };
            [-1, 0, 1, 2].map(tap).into()
        };
        Self::new(old, new, sum)
    }

    /// Copies: token i of n is the old one at ⌊i · old / n⌋ (PyTorch's `nearest`).
    pub fn nearest(old: usize, new: usize) -> Self {
        Self::new(old, new, |i| vec![(i * old / new, 1.0)])
    }

    /// Means over cells from ⌊i · old / n⌋ to ⌈(i + 1) · old / n⌉ (PyTorch's `adaptive_avg_pool`).
    pub fn means(old: usize, new: usize) -> Self {
        let sum = |i: usize| {
            let cell = i * old / new..((i + 1) * old).div_ceil(new);
            let weight = 1.0 / cell.len() as f32;
            cell.map(|token| (token, weight)).collect()
        };
        Self::new(old, new, sum)
    }

    fn new(old: usize, new: usize, sum: impl Fn(usize) -> Vec<(usize, f32)>) -> Self {
        assert!(old > 0, "resample: a map without tokens");
        Self { old, sums: (0..new).map(sum).collect() }
    }

    /// Whence gradients come: the old tokens as sums of new ones.
    fn transposed(&self) -> Self {
        let mut sums = vec![Vec::new(); self.old];
        for (new, sum) in self.sums.iter().enumerate() {
            sum.iter().for_each(|&(old, weight)| sums[old].push((new, weight)));
        }
        Self { old: self.sums.len(), sums }
    }
}

/// Weight of a token at this distance, with PyTorch's parameter a = −0.75.
fn cubic_kernel(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let x = distance.abs();
    match x <= 1.0 {
        true => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        false => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
    }
}

/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - rows, cols: from `height` and `width` to a new height and width
/// - output: `[batch, new height, new width, channels]`
///
/// # Panics
/// If rows or columns are for another size.
pub fn resample(x: Tensor<4>, rows: Taps, cols: Taps) -> Tensor<4> {
    let _span = profile::span(Class::Resample);
    let [_, height, width, _] = x.dims();
    let sides = [rows.old, cols.old];
    assert_eq!(sides, [height, width], "resample: got {height} × {width}, expected {sides:?}");
    if is_cpu_f32(&x) {
        let resampling = Resampling { rows, cols };
        Tensor::from_dispatch(Dispatch::fused_resample(x.into_dispatch(), resampling))
    } else {
        reference::resample(x, &rows, &cols)
    }
}

/// What [`OpsBackend::fused_resample`] needs to know.
#[derive(Clone, Debug)]
pub struct Resampling {
    /// From old rows to new ones.
    pub rows: Taps,
    /// From old columns to new ones.
    pub cols: Taps,
}

/// [`resample`] by the definition, on any device.
pub fn resample_reference(x: Tensor<4>, rows: &Taps, cols: &Taps) -> Tensor<4> {
    reference::resample(x, rows, cols)
}
