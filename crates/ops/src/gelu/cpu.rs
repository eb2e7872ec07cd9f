//! GELU of float32, vectorised: polynomials instead of the C library's scalar `erf` and `exp`.

use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use rayon::prelude::*;

use crate::simd::vectorize;

/// Elements of a task: 64 KB in, 64 KB out.
const TASK: usize = 1 << 14;
/// 1 / √(2π)
const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;

/// See [`gelu`](fn@crate::gelu).
pub(crate) fn forward(x: &FlexTensor) -> FlexTensor {
    map2(x, x, |x, _| x * cdf(x))
}

/// Gradient of the input: grad · (Φ(x) + x φ(x)).
pub(crate) fn backward(x: &FlexTensor, grad: &FlexTensor) -> FlexTensor {
    map2(x, grad, |x, grad| {
        let density = FRAC_1_SQRT_2PI * exp(-0.5 * x * x);
        grad * (cdf(x) + x * density)
    })
}

fn map2(a: &FlexTensor, b: &FlexTensor, f: impl Fn(f32, f32) -> f32 + Sync) -> FlexTensor {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let count = a.layout().num_elements();
    let a_values = &a.storage::<f32>()[a.layout().start_offset()..][..count];
    let b_values = &b.storage::<f32>()[b.layout().start_offset()..][..count];
    let mut output = vec![0.0; count];
    output
        .par_chunks_mut(TASK)
        .zip(a_values.par_chunks(TASK))
        .zip(b_values.par_chunks(TASK))
        .for_each(|((output, a), b)| {
            vectorize(|| {
                for ((output, a), b) in output.iter_mut().zip(a).zip(b) {
                    *output = f(*a, *b);
                }
            });
        });
    FlexTensor::from_data(TensorData::new(output, a.layout().shape().clone()))
}

/// Φ(x), the normal distribution function.
#[inline(always)]
fn cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * FRAC_1_SQRT_2)
}

/// The error function as a rational function of x, accurate to 4e-7 on the whole line: the
/// minimax coefficients that Eigen and XLA use as well. Beyond ±3.83 the result is ±1 but
/// for the last place.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ALPHA: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_3e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BETA: [f32; 5] =
        [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = x.clamp(-3.832_507, 3.832_507);
    let x2 = x * x;
    let numerator = ALPHA.iter().fold(0.0, |sum, alpha| sum * x2 + alpha);
    let denominator = BETA.iter().fold(0.0, |sum, beta| sum * x2 + beta);
    x * numerator / denominator
}

/// e^x for x ≤ 0, relative error below 3e-7; 0 below −87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.max(-87.0);
    // x = k ln 2 + r with |r| ≤ ½ ln 2; adding 1.5 · 2²³ rounds to the nearest integer.
    let shifted = x * LOG2_E + 12_582_912.0;
    let k = shifted - 12_582_912.0;
    let r = x - k * LN_2;
    let polynomial = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]
        .iter()
        .fold(0.0, |sum, coefficient| sum * r + coefficient);
    // 2^k by its bits.
    let power = f32::from_bits(((k as i32 + 127) << 23) as u32);
    polynomial * power
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against float64 computed by a power series that converges on the whole range.
    #[test]
    fn erf_and_exp_are_accurate() {
        let erf64 = |x: f64| {
            let (mut term, mut sum, mut n) = (x, x, 0.0f64);
            while term.abs() > 1e-18 * sum.abs().max(1e-18) && n < 400.0 {
                n += 1.0;
                term *= -x * x / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        for i in -4000..=4000 {
            let x = i as f32 / 1000.0;
            let error = (f64::from(erf(x)) - erf64(f64::from(x))).abs();
            // Four units in the last place of a value near 1.
            assert!(error < 5e-7, "erf({x}): error {error:e}");
        }
        for i in 0..=8000 {
            let x = -(i as f32) / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 5e-6, "exp({x}): relative error {error:e}");
        }
        assert!((erf(30.0) - 1.0).abs() < 1e-7 && (erf(-30.0) + 1.0).abs() < 1e-7);
    }
}
