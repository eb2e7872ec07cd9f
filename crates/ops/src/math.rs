//! Elementary functions of float32 vectors, by polynomials.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use crate::simd::{Simd, mul_add};

/// 1 / √(2π)
const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;

/// 2^x for 0 ≤ x ≤ 1 with least relative error, 9e-8.
const EXP2: [f32; 6] =
    [1.877_576_7e-3, 8.989_34e-3, 5.582_631_7e-2, 0.240_153_61, 0.693_153_1, 0.999_999_94];

/// x · Φ(x)
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, normal_cdf(simd, x))
}

/// The derivative of [`gelu`]: Φ(x) + x φ(x).
#[inline(always)]
pub(crate) fn gelu_derivative<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let exponent = simd.mul_f32s(simd.splat_f32s(-0.5), simd.mul_f32s(x, x));
    let density = simd.mul_f32s(simd.splat_f32s(FRAC_1_SQRT_2PI), exp(simd, exponent));
    mul_add(simd, x, density, normal_cdf(simd, x))
}

/// Φ(x), the normal distribution function.
#[inline(always)]
fn normal_cdf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let half = simd.splat_f32s(0.5);
    mul_add(simd, half, erf(simd, simd.mul_f32s(x, simd.splat_f32s(FRAC_1_SQRT_2))), half)
}

/// The error function as a rational function of x, accurate to 5e-7 on the whole line: the
/// minimax coefficients that Eigen and XLA use as well. Beyond ±3.83 the result is ±1 but
/// for the last place.
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
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
    let limit = 3.832_507;
    let x = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(limit)), simd.splat_f32s(-limit));
    let x2 = simd.mul_f32s(x, x);
    let numerator = simd.mul_f32s(x, polynomial(simd, x2, &ALPHA));
    simd.div_f32s(numerator, polynomial(simd, x2, &BETA))
}

/// e^x for x ≤ 0, relative error below 5e-6; below −87 it may be 0.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    exp2(simd, simd.mul_f32s(x, simd.splat_f32s(LOG2_E)))
}

/// 2^x for x ≤ 0, relative error below 2e-7; what is too small for a normal number may be 0.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    #[cfg(target_arch = "x86_64")]
    if S::F32_LANES == 16 {
        return exp2_avx512(simd, x);
    }
    /// Added to a small number it leaves the nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    // x = k + r with 0 ≤ r ≤ 1
    let shifted = simd.sub_f32s(x, simd.splat_f32s(0.5));
    let shifted = simd.add_f32s(shifted, simd.splat_f32s(ROUND));
    let r = simd.sub_f32s(x, simd.sub_f32s(shifted, simd.splat_f32s(ROUND)));
    let mantissa = polynomial(simd, r, &EXP2);
    // · 2^k: k added to the exponent, which starts at bit 23.
    let k = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let y = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(mantissa), k));
    let is_normal = simd.greater_than_f32s(x, simd.splat_f32s(-126.0));
    simd.select_f32s(is_normal, y, simd.splat_f32s(0.0))
}

/// AVX-512 takes integers out of a number and scales by powers of two, each in one instruction.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors that are known to be those of AVX-512")]
#[inline(always)]
fn exp2_avx512<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    use std::arch::x86_64::{__m512, _MM_FROUND_TO_NEG_INF, _mm512_reduce_ps, _mm512_scalef_ps};
    use std::mem::transmute_copy;
    // SAFETY: no other vectors have 16 lanes.
    unsafe {
        let exponent: __m512 = transmute_copy(&x);
        let r = transmute_copy(&_mm512_reduce_ps::<_MM_FROUND_TO_NEG_INF>(exponent));
        let mantissa = transmute_copy(&polynomial(simd, r, &EXP2));
        transmute_copy(&_mm512_scalef_ps(mantissa, exponent)) // mantissa · 2^⌊x⌋
    }
}

/// Horner's rule; the highest power comes first.
#[inline(always)]
fn polynomial<S: Simd>(simd: S, x: S::f32s, coefficients: &[f32]) -> S::f32s {
    let (first, rest) = coefficients.split_first().expect("a coefficient");
    let add = |sum, &c: &f32| mul_add(simd, sum, x, simd.splat_f32s(c));
    rest.iter().fold(simd.splat_f32s(*first), add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{WithSimd, dispatch};

    /// One vector of equal numbers through one of the functions.
    fn of(x: f32, f: fn(f32) -> Function) -> f64 {
        f64::from(dispatch(f(x)))
    }

    enum Function {
        Erf(f32),
        Exp(f32),
    }

    impl WithSimd for Function {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let y = match self {
                Self::Erf(x) => erf(simd, simd.splat_f32s(x)),
                Self::Exp(x) => exp(simd, simd.splat_f32s(x)),
            };
            simd.reduce_max_f32s(y)
        }
    }

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
            let error = (of(x, Function::Erf) - erf64(f64::from(x))).abs();
            // Four units in the last place of a value near 1.
            assert!(error < 5e-7, "erf({x}): error {error:e}");
        }
        for i in 0..=8000 {
            let x = -(i as f32) / 100.0;
            let exact = f64::from(x).exp();
            let error = (of(x, Function::Exp) - exact).abs() / exact;
            assert!(error < 5e-6, "exp({x}): relative error {error:e}");
        }
        assert!((of(30.0, Function::Erf) - 1.0).abs() < 2e-7);
        assert!((of(-30.0, Function::Erf) + 1.0).abs() < 2e-7);
        assert!(of(-1e30, Function::Exp) < 1e-37);
    }
}
