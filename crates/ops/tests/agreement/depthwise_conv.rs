//! Depthwise convolutions of any kernel, with a residual, in place.

use biformer_ops::{depthwise_conv, depthwise_conv_add, depthwise_conv_reference};
use burn::tensor::{Device, Tensor};

use crate::{SUMS, assert_close, random};

/// Output and the gradients of input, weight and bias under the same random loss.
fn check_depthwise_conv(x: Tensor<4>, kernel_size: usize) {
    let shape = x.dims();
    let [.., channels] = shape;
    let what = format!("depthwise_conv {kernel_size}×{kernel_size} of {shape:?}");
    let weight = random([channels, 1, kernel_size, kernel_size]);
    let bias = random([channels]);
    let coefficients = random(shape).autodiff();
    let run = |f: fn(Tensor<4>, Tensor<4>, Tensor<1>) -> Tensor<4>| {
        let x = x.clone().autodiff().require_grad();
        let weight = weight.clone().autodiff().require_grad();
        let bias = bias.clone().autodiff().require_grad();
        let output = f(x.clone(), weight.clone(), bias.clone());
        let gradients = (output.clone() * coefficients.clone()).sum().backward();
        let gradient = "a gradient";
        (
            output.inner(),
            x.grad(&gradients).expect(gradient),
            weight.grad(&gradients).expect(gradient),
            bias.grad(&gradients).expect(gradient),
        )
    };
    let found = run(depthwise_conv);
    let expected = run(depthwise_conv_reference);
    assert_close(&what, found.0, expected.0, SUMS);
    assert_close(&format!("{what}, input"), found.1, expected.1, SUMS);
    assert_close(&format!("{what}, weight"), found.2, expected.2, SUMS);
    assert_close(&format!("{what}, bias"), found.3, expected.3, SUMS);
}

#[test]
fn depthwise_conv_agrees_on_any_shape() {
    let shapes = [[1, 7, 7, 64], [2, 14, 9, 96], [3, 1, 1, 5], [1, 2, 11, 1], [2, 33, 3, 17]];
    // Strips of every width, some of them on both borders at once, and channels that fill
    // several blocks.
    let widths = (1..=16).map(|width| [1, 3, width, 20]);
    for shape in shapes.into_iter().chain(widths).chain([[2, 5, 14, 150], [1, 2, 28, 16]]) {
        for kernel_size in [1, 3, 5, 7] {
            check_depthwise_conv(random(shape), kernel_size);
        }
    }
}

#[test]
fn depthwise_conv_reads_slices_and_permuted_maps_in_place() {
    let qkv = random([2, 6, 5, 48]);
    check_depthwise_conv(qkv.clone().narrow(3, 32, 16), 5);
    check_depthwise_conv(qkv.slice([0..2, 1..5, 2..4, 3..30]), 3);
    check_depthwise_conv(random([2, 8, 6, 5]).permute([0, 2, 3, 1]), 5);
}

#[test]
fn depthwise_conv_adds_a_residual() {
    for [batch, height, width, channels] in [[2, 6, 5, 48], [1, 14, 14, 16], [1, 3, 2, 7]] {
        let qkv = random([batch, height, width, 3 * channels]);
        let x = qkv.clone().narrow(3, 2 * channels, channels);
        let (weight, bias) = (random([channels, 1, 5, 5]), random([channels]));
        let convolved = depthwise_conv_reference(x.clone(), weight.clone(), bias.clone());
        let residuals = [
            random(x.dims()),
            qkv.narrow(3, 0, channels),
            random([batch, channels, height, width]).permute([0, 2, 3, 1]),
            x.clone(),
        ];
        for residual in residuals {
            let add =
                |residual| depthwise_conv_add(x.clone(), weight.clone(), bias.clone(), residual);
            let expected = residual.clone() + convolved.clone();
            assert_close("residual", add(residual.clone()), expected.clone(), SUMS);
            // Held by nobody else, it may become the output.
            let owned = Tensor::from_data(residual.clone().into_data(), &Device::default());
            assert_close("owned residual", add(owned), expected, SUMS);
        }
    }
}

#[test]
fn depthwise_conv_gives_the_residual_its_gradient() {
    let x = random([1, 4, 5, 8]).autodiff().require_grad();
    let residual = random([1, 4, 5, 8]).autodiff().require_grad();
    let (weight, bias) = (random([8, 1, 3, 3]).autodiff(), random([8]).autodiff());
    let output = depthwise_conv_add(x.clone(), weight, bias, residual.clone());
    let coefficients = random([1, 4, 5, 8]);
    let gradients = (output * coefficients.clone().autodiff()).sum().backward();
    let gradient = residual.grad(&gradients).expect("a gradient");
    assert_close("residual", gradient, coefficients, 0.0);
    assert!(x.grad(&gradients).is_some());
}

#[test]
#[should_panic(expected = "expected 8 channels")]
fn depthwise_conv_names_a_wrong_weight() {
    depthwise_conv(random([1, 4, 4, 8]), random([4, 1, 3, 3]), random([8]));
}
