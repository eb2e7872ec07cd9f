//! One row of a layer normalisation, and its gradients.
//!
//! A row lies in the first cache: it is read for its mean, again for the variance around that, and
//! again for the result. Sums run in four vectors side by side, because an addition takes
//! four cycles; what does not fill a vector is added number by number.

#![allow(unsafe_code, reason = "vectors of a row are accessed through pointers")]

use crate::simd::{Simd, load, mul_add, store};

/// The reciprocal of the deviation, and the mean.
#[derive(Clone, Copy)]
struct Moments {
    mean: f32,
    rstd: f32,
}

/// (x − mean) / √(variance + epsilon) · gamma + beta
///
/// # Safety
/// `out` can be written as far as `x` reaches.
#[inline(always)]
pub(super) unsafe fn normalize<S: Simd>(
    simd: S,
    x: &[f32],
    [gamma, beta]: [&[f32]; 2],
    epsilon: f32,
    out: *mut f32,
) {
    assert!(gamma.len() == x.len() && beta.len() == x.len());
    let Moments { mean, rstd } = moments(simd, x, epsilon);
    let (mean_vector, rstd_vector) = (simd.splat_f32s(mean), simd.splat_f32s(rstd));
    let whole = x.len() - x.len() % S::F32_LANES;
    let mut i = 0;
    while i < whole {
        // SAFETY: a vector starts here in all of them.
        unsafe {
            let centred = simd.sub_f32s(load(simd, x.as_ptr().add(i)), mean_vector);
            let normalized = simd.mul_f32s(centred, rstd_vector);
            let (gamma, beta) =
                (load(simd, gamma.as_ptr().add(i)), load(simd, beta.as_ptr().add(i)));
            store(simd, out.add(i), mul_add(simd, normalized, gamma, beta));
        }
        i += S::F32_LANES;
    }
    for i in whole..x.len() {
        // SAFETY: the caller's.
        unsafe { out.add(i).write((x[i] - mean) * rstd * gamma[i] + beta[i]) };
    }
}

/// Writes the gradient of a row, and adds its part of those of gamma and beta.
///
/// With x̂ = (x − mean) · rstd and h = grad · gamma:
/// dx = rstd · (h − mean(h) − x̂ · mean(h · x̂)), dgamma = Σ grad · x̂, dbeta = Σ grad.
///
/// # Safety
/// `out` can be written as far as `x` reaches.
#[inline(always)]
pub(super) unsafe fn backward<S: Simd>(
    simd: S,
    [x, gamma, grad]: [&[f32]; 3],
    epsilon: f32,
    [grad_gamma, grad_beta]: [&mut [f32]; 2],
    out: *mut f32,
) {
    let len = x.len();
    assert!(gamma.len() == len && grad.len() == len);
    assert!(grad_gamma.len() == len && grad_beta.len() == len);
    let Moments { mean, rstd } = moments(simd, x, epsilon);
    let (mean_vector, rstd_vector) = (simd.splat_f32s(mean), simd.splat_f32s(rstd));
    let whole = len - len % S::F32_LANES;
    let (mut h_sum, mut product_sum) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
    let mut i = 0;
    while i < whole {
        // SAFETY: a vector starts here in all of them.
        unsafe {
            let grad = load(simd, grad.as_ptr().add(i));
            let h = simd.mul_f32s(grad, load(simd, gamma.as_ptr().add(i)));
            let centred = simd.sub_f32s(load(simd, x.as_ptr().add(i)), mean_vector);
            let normalized = simd.mul_f32s(centred, rstd_vector);
            h_sum = simd.add_f32s(h_sum, h);
            product_sum = mul_add(simd, h, normalized, product_sum);
            let sum = grad_gamma.as_mut_ptr().add(i);
            store(simd, sum, mul_add(simd, grad, normalized, load(simd, sum)));
            let sum = grad_beta.as_mut_ptr().add(i);
            store(simd, sum, simd.add_f32s(grad, load(simd, sum)));
        }
        i += S::F32_LANES;
    }
    let mut h_mean = simd.reduce_sum_f32s(h_sum);
    let mut product_mean = simd.reduce_sum_f32s(product_sum);
    for i in whole..len {
        let (h, normalized) = (grad[i] * gamma[i], (x[i] - mean) * rstd);
        h_mean += h;
        product_mean += h * normalized;
        grad_gamma[i] += grad[i] * normalized;
        grad_beta[i] += grad[i];
    }
    h_mean /= len as f32;
    product_mean /= len as f32;
    let h_vector = simd.splat_f32s(h_mean);
    let product_vector = simd.splat_f32s(-product_mean);
    let mut i = 0;
    while i < whole {
        // SAFETY: a vector starts here in all of them.
        unsafe {
            let gamma = load(simd, gamma.as_ptr().add(i));
            let h = simd.mul_f32s(load(simd, grad.as_ptr().add(i)), gamma);
            let centred = simd.sub_f32s(load(simd, x.as_ptr().add(i)), mean_vector);
            let normalized = simd.mul_f32s(centred, rstd_vector);
            let h = simd.sub_f32s(h, h_vector);
            let dx = mul_add(simd, normalized, product_vector, h);
            store(simd, out.add(i), simd.mul_f32s(dx, rstd_vector));
        }
        i += S::F32_LANES;
    }
    for i in whole..len {
        let (h, normalized) = (grad[i] * gamma[i], (x[i] - mean) * rstd);
        // SAFETY: the caller's.
        unsafe { out.add(i).write((h - h_mean - normalized * product_mean) * rstd) };
    }
}

#[inline(always)]
fn moments<S: Simd>(simd: S, x: &[f32], epsilon: f32) -> Moments {
    let (vectors, rest) = S::as_simd_f32s(x);
    let (fours, ones) = vectors.as_chunks::<4>();
    let scale = 1.0 / x.len() as f32;

    let [mut a, mut b, mut c, mut d] = [simd.splat_f32s(0.0); 4];
    for [x0, x1, x2, x3] in fours {
        a = simd.add_f32s(a, *x0);
        b = simd.add_f32s(b, *x1);
        c = simd.add_f32s(c, *x2);
        d = simd.add_f32s(d, *x3);
    }
    for x in ones {
        a = simd.add_f32s(a, *x);
    }
    let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
    let mean = (simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>()) * scale;

    let mean_vector = simd.splat_f32s(mean);
    let [mut a, mut b, mut c, mut d] = [simd.splat_f32s(0.0); 4];
    for [x0, x1, x2, x3] in fours {
        a = add_square(simd, a, simd.sub_f32s(*x0, mean_vector));
        b = add_square(simd, b, simd.sub_f32s(*x1, mean_vector));
        c = add_square(simd, c, simd.sub_f32s(*x2, mean_vector));
        d = add_square(simd, d, simd.sub_f32s(*x3, mean_vector));
    }
    for x in ones {
        a = add_square(simd, a, simd.sub_f32s(*x, mean_vector));
    }
    let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
    let rest: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
    let variance = (simd.reduce_sum_f32s(sum) + rest) * scale;
    Moments { mean, rstd: 1.0 / (variance + epsilon).sqrt() }
}

#[inline(always)]
fn add_square<S: Simd>(simd: S, sum: S::f32s, x: S::f32s) -> S::f32s {
    mul_add(simd, x, x, sum)
}
