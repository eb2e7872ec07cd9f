//! Linear layers and convolutions, on shapes that do not fit tiles or blocks.

use biformer_ops::{
    LinearFusion, Norm, Weight, Window, convolution, convolution_reference, convolution_weight,
    layer_norm, linear, linear_reference,
};
use burn::tensor::{Device, Tensor, activation};

use crate::numbers::{assert_close, numbers, values};

/// Both sides add up to 2304 products of numbers below 1 in float32, in another order: sums are
/// near √2304 / 3 = 16, and each addition rounds by up to 6e-8 of that.
pub const SUMS: f32 = 1e-4;

pub fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    numbers(shape, seed, &Device::default())
}

fn assert_same<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    assert_close(what, &values(found), &values(expected), SUMS);
}

/// Rows, channels in, channels out: whole tiles, rests of all kinds, one of everything.
pub const SHAPES: [[usize; 3]; 9] = [
    [49, 512, 96],
    [196, 64, 64],
    [1, 1, 1],
    [3, 5, 7],
    [15, 33, 31],
    [29, 17, 33],
    [57, 256, 10],
    [2500, 8, 40],
    [700, 200, 65],
];

#[test]
fn linear_agrees_on_any_shape() {
    for [rows, dim_in, dim_out] in SHAPES {
        let what = format!("linear {rows} × {dim_in} × {dim_out}");
        let x = random([1, rows, dim_in], 1);
        let weight = random([dim_in, dim_out], 2);
        let bias = random([dim_out], 3);
        let expected = linear_reference(x.clone(), weight.clone(), Some(bias.clone()));
        let plain = Weight::Plain(weight.clone());
        for weight in [plain.clone(), plain.clone().pack()] {
            assert_eq!(weight.dims(), [dim_in, dim_out]);
            let found = linear(x.clone(), &weight, Some(bias.clone()), LinearFusion::default());
            assert_same(&what, found, expected.clone());
        }
        let found = linear(x.clone(), &plain, None, LinearFusion::default());
        assert_same(&format!("{what} without bias"), found, linear_reference(x, weight, None));
    }
}

/// Rows so long that one of them is more than a block, and that they are multiplied in parts.
#[test]
fn linear_takes_rows_of_any_length() {
    for rows in [3, 130] {
        let (x, weight) = (random([1, rows, 70_000], 1) / 256.0, random([70_000, 2], 2));
        let (bias, residual) = (random([2], 3), random([1, rows, 2], 4));
        for gelu in [false, true] {
            let expected = linear_reference(x.clone(), weight.clone(), Some(bias.clone()));
            let expected = if gelu { activation::gelu(expected) } else { expected };
            let fusion = LinearFusion { gelu, residual: Some(residual.clone()), norm: None };
            let found =
                linear(x.clone(), &Weight::Plain(weight.clone()), Some(bias.clone()), fusion);
            let what = format!("linear {rows} × 70000 × 2, GELU {gelu}");
            assert_same(&what, found, expected + residual.clone());
        }
    }
}

#[test]
#[should_panic(expected = "linear: residual")]
fn linear_names_a_wrong_residual() {
    let fusion = LinearFusion { residual: Some(random([1, 2, 4], 1)), ..Default::default() };
    linear(random([1, 2, 4], 2), &Weight::Plain(random([4, 3], 3)), None, fusion);
}

/// Everything at once, as a block has it.
#[test]
fn norm_gelu_and_residual_are_fused() {
    for [rows, dim_in, dim_out] in SHAPES {
        let x = random([1, rows, dim_in], 1) * 3.0 + 0.5;
        let weight = random([dim_in, dim_out], 2);
        let bias = random([dim_out], 3);
        let residual = random([1, rows, dim_out], 4);
        let norm = Norm { gamma: random([dim_in], 5), beta: random([dim_in], 6), epsilon: 1e-6 };
        let normed = layer_norm(x.clone(), norm.gamma.clone(), norm.beta.clone(), norm.epsilon);
        let expected = linear_reference(normed, weight.clone(), Some(bias.clone()));
        let expected = activation::gelu(expected) + residual.clone();
        let fusion = LinearFusion { norm: Some(norm), gelu: true, residual: Some(residual) };
        let found = linear(x, &Weight::Plain(weight).pack(), Some(bias), fusion);
        assert_same(&format!("fused linear {rows} × {dim_in} × {dim_out}"), found, expected);
    }
}

#[test]
fn linear_has_the_gradients_of_its_definition() {
    for [rows, dim_in, dim_out] in SHAPES {
        let run = |fused: bool| {
            let x = random([1, rows, dim_in], 1).autodiff().require_grad();
            let weight = random([dim_in, dim_out], 2).autodiff().require_grad();
            let bias = random([dim_out], 3).autodiff().require_grad();
            let output = match fused {
                true => {
                    let weight = Weight::Plain(weight.clone());
                    linear(x.clone(), &weight, Some(bias.clone()), LinearFusion::default())
                }
                false => linear_reference(x.clone(), weight.clone(), Some(bias.clone())),
            };
            // The mean keeps sums over thousands of rows near 1.
            let loss = output * random([1, rows, dim_out], 4).autodiff() / (rows as f64).sqrt();
            let gradients = loss.sum().backward();
            (
                x.grad(&gradients).expect("a gradient"),
                weight.grad(&gradients).expect("a gradient"),
                bias.grad(&gradients).expect("a gradient"),
            )
        };
        let (found, expected) = (run(true), run(false));
        let what = format!("linear {rows} × {dim_in} × {dim_out}");
        assert_same(&format!("{what}, input"), found.0, expected.0);
        assert_same(&format!("{what}, weight"), found.1, expected.1);
        assert_same(&format!("{what}, bias"), found.2, expected.2);
    }
}

/// Size of the map, channels in and out, window: stem, merging, Swin's patches, those of heads, and odd ones.
pub fn convolutions() -> Vec<([usize; 3], usize, usize, Window)> {
    let window = |size, stride, padding| Window { size, stride, padding };
    vec![
        ([2, 14, 14], 3, 16, window(3, 2, 1)),
        ([1, 14, 14], 64, 40, window(3, 2, 1)),
        ([3, 9, 7], 5, 6, window(3, 2, 1)),
        ([1, 1, 1], 2, 3, window(3, 2, 1)),
        ([1, 16, 12], 3, 33, window(4, 4, 0)),
        ([2, 10, 8], 8, 16, window(2, 2, 0)),
        ([1, 11, 9], 4, 8, window(2, 2, 0)),
        ([2, 9, 14], 20, 33, window(3, 1, 1)),
        ([1, 6, 5], 3, 4, window(5, 1, 2)),
        ([1, 6, 5], 3, 4, window(3, 1, 0)),
        ([1, 6, 5], 3, 4, window(2, 1, 1)),
        ([1, 6, 5], 3, 4, window(2, 1, 2)),
    ]
}

#[test]
fn convolution_agrees_on_any_shape() {
    for ([batch, height, width], channels_in, channels_out, window) in convolutions() {
        let what = format!("convolution of {height} × {width}, {window:?}");
        let x = random([batch, height, width, channels_in], 1);
        let kernel = random([channels_out, channels_in, window.size, window.size], 2);
        let weight = convolution_weight(kernel);
        let bias = random([channels_out], 3);
        let expected = convolution_reference(x.clone(), weight.clone(), bias.clone(), window);
        let packed = Weight::Plain(weight.clone()).pack();
        let found = convolution(x.clone(), &packed, bias.clone(), window, false);
        assert_same(&what, found, expected.clone());
        // Pictures come channels-first.
        let permuted = Tensor::from_data(x.permute([0, 3, 1, 2]).into_data(), &Device::default());
        let permuted = permuted.permute([0, 2, 3, 1]);
        let found = convolution(permuted, &packed, bias, window, true);
        assert_same(&format!("{what}, GELU"), found, activation::gelu(expected));
    }
}

#[test]
fn convolution_has_the_gradients_of_its_definition() {
    for ([batch, height, width], channels_in, channels_out, window) in convolutions() {
        let run = |fused: bool| {
            let x = random([batch, height, width, channels_in], 1).autodiff().require_grad();
            let kernel = random([channels_out, channels_in, window.size, window.size], 2);
            let kernel = kernel.autodiff().require_grad();
            let weight = convolution_weight(kernel.clone());
            let bias = random([channels_out], 3).autodiff().require_grad();
            let output = match fused {
                true => convolution(x.clone(), &Weight::Plain(weight), bias.clone(), window, false),
                false => convolution_reference(x.clone(), weight, bias.clone(), window),
            };
            let coefficients = random(output.dims(), 4).autodiff();
            let gradients = (output * coefficients).sum().backward();
            (
                x.grad(&gradients).expect("a gradient"),
                kernel.grad(&gradients).expect("a gradient"),
                bias.grad(&gradients).expect("a gradient"),
            )
        };
        let (found, expected) = (run(true), run(false));
        let what = format!("convolution of {height} × {width}, {window:?}");
        assert_same(&format!("{what}, input"), found.0, expected.0);
        assert_same(&format!("{what}, weight"), found.1, expected.1);
        assert_same(&format!("{what}, bias"), found.2, expected.2);
    }
}

#[test]
#[should_panic(expected = "a packed weight has no gradient")]
fn packed_weights_refuse_gradients() {
    let weight = Weight::Plain(random([4, 4], 1)).pack();
    linear(random([1, 2, 4], 2).autodiff(), &weight, None, LinearFusion::default());
}

/// The same numbers, bit for bit, for any number of threads.
#[test]
fn threads_change_nothing() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let x = random([1, 700, 200], 1).autodiff().require_grad();
            let weight = random([200, 300], 2).autodiff().require_grad();
            let output =
                linear(x.clone(), &Weight::Plain(weight.clone()), None, LinearFusion::default());
            let gradients = output.clone().sum().backward();
            [
                values(output.inner()),
                values(x.grad(&gradients).expect("a gradient")),
                values(weight.grad(&gradients).expect("a gradient")),
            ]
        })
    };
    let expected = run(1);
    for threads in [2, 3, 5] {
        assert!(run(threads) == expected, "{threads} threads");
    }
}
