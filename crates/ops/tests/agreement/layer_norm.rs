//! Layer norms of any length.

use biformer_ops::{layer_norm, layer_norm_reference};
use burn::tensor::Tensor;

use crate::{SUMS, assert_close, random};

/// Output and the gradients of input, gamma and beta under the same random loss.
fn check_layer_norm<const D: usize>(x: Tensor<D>) {
    let shape = x.dims();
    let what = format!("layer_norm of {shape:?}");
    let (gamma, beta) = (random([shape[D - 1]]), random([shape[D - 1]]));
    let coefficients = random(shape).autodiff();
    let run = |f: fn(Tensor<D>, Tensor<1>, Tensor<1>, f64) -> Tensor<D>| {
        let x = x.clone().autodiff().require_grad();
        let gamma = gamma.clone().autodiff().require_grad();
        let beta = beta.clone().autodiff().require_grad();
        let output = f(x.clone(), gamma.clone(), beta.clone(), 1e-6);
        let gradients = (output.clone() * coefficients.clone()).sum().backward();
        let gradient = "a gradient";
        (
            output.inner(),
            x.grad(&gradients).expect(gradient),
            gamma.grad(&gradients).expect(gradient),
            beta.grad(&gradients).expect(gradient),
        )
    };
    let (found, expected) = (run(layer_norm), run(layer_norm_reference));
    assert_close(&what, found.0, expected.0, SUMS);
    assert_close(&format!("{what}, input"), found.1, expected.1, SUMS);
    assert_close(&format!("{what}, gamma"), found.2, expected.2, SUMS);
    assert_close(&format!("{what}, beta"), found.3, expected.3, SUMS);
}

#[test]
fn layer_norm_agrees_on_any_shape() {
    for channels in [3, 16, 31, 64, 65, 96, 130, 512] {
        check_layer_norm(random([2, 3, 5, channels]));
    }
    check_layer_norm(random([700, 64]));
    check_layer_norm(random([40]));
    // Far from zero: the variance is that around the mean, not a difference of squares.
    check_layer_norm(random([3, 64]).add_scalar(100.0));
}

#[test]
fn layer_norm_reads_slices_and_permuted_maps() {
    check_layer_norm(random([2, 6, 48]).narrow(2, 7, 20));
    check_layer_norm(random([2, 24, 5]).swap_dims(1, 2));
}

#[test]
#[should_panic(expected = "expected [8]")]
fn layer_norm_names_a_wrong_length() {
    layer_norm(random([2, 8]), random([8]), random([4]), 1e-6);
}
