//! Products of matrices, which autotuning times several kernels of Burn for. Some of these are wrong on
//! SwiftShader, where numbers that CubeCL 0.11 puts into shared memory overwrite each other.

use biformer_ops::{Weight, Window, convolution, linear};

use super::{SUMS, assert_agrees, with_gradients};
use crate::numbers::numbers;

#[test]
fn convolution_agrees() {
    let window = Window { size: 3, stride: 2, padding: 1 };
    assert_agrees("3 × 3 with a stride of 2", SUMS, |device| {
        let weight = numbers([9 * 12, 16], 2, device).autodiff();
        let bias = numbers([16], 3, device).autodiff();
        with_gradients([("x", numbers([2, 9, 7, 12], 1, device))], |[x]| {
            convolution(x, &Weight::Plain(weight.clone()), bias.clone(), window, false)
        })
    });
}

#[test]
fn linear_agrees() {
    assert_agrees("24 to 48", SUMS, |device| {
        let weight = numbers([24, 48], 2, device).autodiff();
        let bias = numbers([48], 3, device).autodiff();
        with_gradients([("x", numbers([2, 5, 3, 24], 1, device))], |[x]| {
            linear(x, &Weight::Plain(weight.clone()), Some(bias.clone()), Default::default())
        })
    });
}
