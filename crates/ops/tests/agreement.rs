//! Fused operators against their definitions: outputs and gradients, on shapes that do not fit
//! vectors, on slices of wider maps, and for any number of threads.

use biformer_ops::{depthwise_conv, depthwise_conv_add, depthwise_conv_reference, gelu};
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

/// Outputs and gradients are the same numbers for any number of threads.
#[test]
fn threads_change_nothing() {
    let x = random([3, 29, 30, 72]);
    let parameters = [3, 5, 7].map(|size| (random([72, 1, size, size]), random([72])));
    let run = || -> Vec<Vec<u32>> {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        let mut results = Vec::new();
        for (weight, bias) in parameters.clone() {
            let tracked = (
                x.clone().autodiff().require_grad(),
                weight.autodiff().require_grad(),
                bias.autodiff().require_grad(),
            );
            let (x, weight, bias) = tracked.clone();
            let output = depthwise_conv(x, weight, bias);
            let gradients = output.clone().powi_scalar(2).sum().backward();
            results.push(bits(values(output.inner())));
            results.push(bits(values(tracked.0.grad(&gradients).expect("a gradient"))));
            results.push(bits(values(tracked.1.grad(&gradients).expect("a gradient"))));
            results.push(bits(values(tracked.2.grad(&gradients).expect("a gradient"))));
        }
        results
    };
    let with_threads = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(run)
    };
    let expected = with_threads(1);
    for threads in [2, 3] {
        assert!(with_threads(threads) == expected, "{threads} threads");
    }
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
