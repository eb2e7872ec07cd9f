//! Fused operators against their definitions: outputs and gradients, on shapes that do not fit
//! vectors, on slices of wider maps, and for any number of threads.

use biformer_ops::{depthwise_conv, depthwise_conv_reference, gelu};
use burn::tensor::{Device, Distribution, Tensor, activation};

/// Both sides sum 25 products a value in float32, in another order: 25 roundings of 6e-8, and
/// headroom for the gradient of the weights, which sums over the whole map.
const SUMS: f64 = 2e-5;

/// The fused GELU's error function is a rational function accurate to 5e-7.
const GELU: f64 = 2e-6;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::default())
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data_as::<f32>().try_into_vec().expect("float32")
}

fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>, bound: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let scale = expected.iter().fold(1e-3, |max: f32, x| max.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        let error = f64::from((f - e).abs() / scale);
        assert!(error <= bound, "{what}[{i}]: got {f}, expected {e}");
    }
}

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
    for shape in [[1, 7, 7, 64], [2, 14, 9, 96], [3, 1, 1, 5], [1, 2, 11, 1], [2, 33, 3, 17]] {
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
#[should_panic(expected = "expected 8 channels")]
fn depthwise_conv_names_a_wrong_weight() {
    depthwise_conv(random([1, 4, 4, 8]), random([4, 1, 3, 3]), random([8]));
}

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
        assert_close("gelu", found.0, expected.0, GELU);
        assert_close("gelu, input", found.1, expected.1, GELU);
    }
}
