//! GELU against Burn's.

use biformer_ops::gelu;
use burn::tensor::{Tensor, activation};

use crate::{assert_close, random};

/// The fused GELU's error function is a rational function accurate to 5e-7.
const BOUND: f64 = 2e-6;

#[test]
fn gelu_agrees() {
    let coefficients = random([4, 5, 333]).autodiff();
    let x = random([4, 5, 333]).mul_scalar(4.0);
    let run = |f: fn(Tensor<3>) -> Tensor<3>, x: Tensor<3>| {
        let x = x.autodiff().require_grad();
        let output = f(x.clone());
        let gradients = (output.clone() * coefficients.clone()).sum().backward();
        (output.inner(), x.grad(&gradients).expect("a gradient"))
    };
    for x in [x.clone(), x.clone().swap_dims(0, 1).reshape([4, 5, 333]), x.mul_scalar(20.0)] {
        let (found, expected) = (run(gelu, x.clone()), run(activation::gelu, x));
        assert_close("gelu", found.0, expected.0, BOUND);
        assert_close("gelu, input", found.1, expected.1, BOUND);
    }
}
