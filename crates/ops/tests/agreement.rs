//! Fused operators against their definitions: outputs and gradients, on shapes that do not fit
//! vectors, on slices of wider maps, and for any number of threads.

use biformer_ops::{
    depthwise_conv, depthwise_conv_add, depthwise_conv_reference, gelu, layer_norm,
    layer_norm_reference,
};
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

/// Outputs and gradients are the same numbers for any number of threads.
#[test]
fn threads_change_nothing() {
    let x = random([3, 29, 30, 72]);
    let vectors = [random([72]), random([72])];
    let kernels = [3, 5, 7].map(|size| random([72, 1, size, size]));
    let run = || -> Vec<Vec<u32>> {
        let norm = |x, [gamma, beta]: [Tensor<1>; 2]| layer_norm(x, gamma, beta, 1e-6);
        let mut results = bits_of_all(x.clone(), vectors.clone(), norm);
        for kernel in kernels.clone() {
            let convolve = |x, [scale, bias]: [Tensor<1>; 2]| {
                let kernel = kernel.clone().autodiff() * scale.reshape([72, 1, 1, 1]);
                depthwise_conv(x, kernel, bias)
            };
            results.extend(bits_of_all(x.clone(), vectors.clone(), convolve));
        }
        results.extend(bits_of_all(x.clone(), vectors.clone(), |x, [a, b]| {
            gelu(x) * (a + b).unsqueeze()
        }));
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

/// The output of an operator and the gradients of its inputs under a loss without symmetry.
fn bits_of_all(
    x: Tensor<4>,
    vectors: [Tensor<1>; 2],
    operator: impl Fn(Tensor<4>, [Tensor<1>; 2]) -> Tensor<4>,
) -> Vec<Vec<u32>> {
    let x = x.autodiff().require_grad();
    let vectors = vectors.map(|vector| vector.autodiff().require_grad());
    let output = operator(x.clone(), vectors.clone());
    let gradients = output.clone().powi_scalar(3).sum().backward();
    let of_vectors = vectors.map(|vector| values(vector.grad(&gradients).expect("a gradient")));
    let [first, second] = of_vectors;
    let of_x = values(x.grad(&gradients).expect("a gradient"));
    let all = [values(output.inner()), of_x, first, second];
    all.map(|values| values.into_iter().map(f32::to_bits).collect()).into()
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
