//! Batch norms of any shape.

use biformer_ops::{batch_norm, batch_norm_reference};
use burn::tensor::Tensor;

use crate::{SUMS, assert_close, assert_close_to, random};

/// Large, because gradients of columns that hardly vary would be rounding alone.
const EPSILON: f64 = 0.1;

/// Output, moments and the gradients of input, gamma and beta under the same random loss.
fn check_batch_norm(x: Tensor<2>) {
    let [positions, channels] = x.dims();
    let what = format!("batch_norm of {positions} × {channels}");
    let (gamma, beta) = (random([channels]), random([channels]));
    let coefficients = random([positions, channels]).autodiff();
    let run = |f: fn(Tensor<2>, Tensor<1>, Tensor<1>, f64) -> (Tensor<2>, Tensor<2>)| {
        let x = x.clone().autodiff().require_grad();
        let gamma = gamma.clone().autodiff().require_grad();
        let beta = beta.clone().autodiff().require_grad();
        let (output, moments) = f(x.clone(), gamma.clone(), beta.clone(), EPSILON);
        let gradients = (output.clone() * coefficients.clone()).sum().backward();
        let gradient = "a gradient";
        let of_vectors = [gamma, beta].map(|vector| vector.grad(&gradients).expect(gradient));
        ([output.inner(), moments.inner(), x.grad(&gradients).expect(gradient)], of_vectors)
    };
    let (found, expected) = (run(batch_norm), run(batch_norm_reference));
    let names = ["output", "moments", "gradient of x"];
    for ((name, found), expected) in names.into_iter().zip(found.0).zip(expected.0) {
        assert_close(&format!("{what}, {name}"), found, expected, SUMS);
    }
    let names = ["gamma", "beta"];
    for ((name, found), expected) in names.into_iter().zip(found.1).zip(expected.1) {
        // A sum over positions, which may cancel where there is one channel.
        assert_close_to(&format!("{what}, gradient of {name}"), found, expected, SUMS, 1.0);
    }
}

#[test]
fn batch_norm_agrees_on_any_shape() {
    for channels in [1, 3, 16, 31, 64, 65, 130, 512] {
        check_batch_norm(random([37, channels]));
    }
    for positions in [2, 3, 4, 1030, 5000] {
        check_batch_norm(random([positions, 48]));
    }
    // Far from zero: the variance is that around the mean, not a difference of squares. In quarters, so that
    // the sum of the definition is exact: its rounding would be larger than the bound.
    let quarters = random([300, 20]).mul_scalar(4.0).round().div_scalar(4.0);
    check_batch_norm(quarters.add_scalar(100.0));
}

#[test]
fn batch_norm_reads_slices_and_transposed_matrices() {
    check_batch_norm(random([40, 48]).narrow(1, 7, 20));
    check_batch_norm(random([24, 50]).swap_dims(0, 1));
}

#[test]
#[should_panic(expected = "expected [8]")]
fn batch_norm_names_a_wrong_length() {
    batch_norm(random([2, 8]), random([8]), random([4]), 1e-6);
}
