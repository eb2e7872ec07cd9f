//! Differentiable products of bfloat16, on processors that have them: outputs and gradients against float32
//! definitions on rounded numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use biformer_ops::{
    LinearFusion, Precision, Weight, Window, autocast, convolution, convolution_reference,
    convolution_weight, linear, linear_reference,
};
use burn::tensor::Tensor;

use crate::bf16::{assert_no_worse, is_supported, rounded};
use crate::numbers::{assert_close, values};
use crate::products::{SHAPES, SUMS, convolutions, random};

/// Output, and gradients of input, weight and bias.
type Pass = [Tensor<1>; 4];

/// One product of `x`, weight and bias.
trait Product: Fn(Tensor<4>, Tensor<2>, Tensor<1>) -> Tensor<4> {}
impl<F: Fn(Tensor<4>, Tensor<2>, Tensor<1>) -> Tensor<4>> Product for F {}

/// Forward under `autocast`, backward after it; the gradient of the output is `coefficients`.
fn pass(
    precision: Precision,
    inputs: &(Tensor<4>, Tensor<2>, Tensor<1>),
    coefficients: &Tensor<4>,
    product: impl Product,
) -> Pass {
    fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
        let len = x.dims().iter().product::<usize>();
        x.reshape([len])
    }
    let (x, weight, bias) = inputs.clone();
    let x = x.autodiff().require_grad();
    let weight = weight.autodiff().require_grad();
    let bias = bias.autodiff().require_grad();
    let output = autocast(precision, || product(x.clone(), weight.clone(), bias.clone()));
    let gradients = (output.clone() * coefficients.clone().autodiff()).sum().backward();
    [
        flat(output.inner()),
        flat(x.grad(&gradients).expect("a gradient")),
        flat(weight.grad(&gradients).expect("a gradient")),
        flat(bias.grad(&gradients).expect("a gradient")),
    ]
}

/// Both sides of each product are rounded, and nothing else is: sums are those of float32, in another order.
/// The gradient of the bias is no product.
fn check(
    what: &str,
    inputs: (Tensor<4>, Tensor<2>, Tensor<1>),
    product: impl Product,
    definition: impl Product,
) {
    let (x, weight, bias) = inputs.clone();
    let dims = definition(x.clone(), weight.clone(), bias.clone()).dims();
    // The divisor keeps sums over thousands of pixels near 1.
    let pixels: usize = dims[..3].iter().product();
    let coefficients = random(dims, 4) / (pixels as f64).sqrt();
    let found = pass(Precision::Bf16, &inputs, &coefficients, product);
    let exact = pass(Precision::F32, &inputs, &coefficients, &definition);
    let inputs = (rounded(x), rounded(weight), bias);
    let mut expected = pass(Precision::F32, &inputs, &rounded(coefficients), definition);
    expected[3] = exact[3].clone();
    let parts = ["output", "input", "weight", "bias"];
    for (((part, found), expected), exact) in parts.iter().zip(found).zip(expected).zip(exact) {
        let what = format!("{what}, {part}");
        assert_close(&what, &values(found.clone()), &values(expected.clone()), SUMS);
        if *part != "bias" {
            assert_no_worse(&what, found.clone(), expected, exact.clone());
            assert!(values(found) != values(exact), "{what}: nothing was rounded");
        }
    }
}

/// Odd numbers of channels, and of tokens in one chunk and in the last of three.
#[test]
fn linear_rounds_both_sides_forward_and_backward() {
    if !is_supported() {
        return;
    }
    for [rows, dim_in, dim_out] in SHAPES.into_iter().chain([[2051, 9, 34]]) {
        let inputs =
            (random([1, 1, rows, dim_in], 1), random([dim_in, dim_out], 2), random([dim_out], 3));
        let product = |x, weight, bias| {
            linear(x, &Weight::Plain(weight), Some(bias), LinearFusion::default())
        };
        let definition = |x, weight, bias| linear_reference(x, weight, Some(bias));
        check(&format!("linear {rows} × {dim_in} × {dim_out}"), inputs, product, definition);
    }
}

#[test]
fn convolutions_round_both_sides_forward_and_backward() {
    if !is_supported() {
        return;
    }
    for ([batch, height, width], channels_in, channels_out, window) in convolutions() {
        let kernel = random([channels_out, channels_in, window.size, window.size], 2);
        let inputs = (
            random([batch, height, width, channels_in], 1),
            convolution_weight(kernel),
            random([channels_out], 3),
        );
        let product = |x, weight, bias| convolution(x, &Weight::Plain(weight), bias, window, false);
        let definition = |x, weight, bias| convolution_reference(x, weight, bias, window);
        check(
            &format!("convolution of {height} × {width}, {window:?}"),
            inputs,
            product,
            definition,
        );
    }
}

/// The same numbers, bit for bit: exact resume rests on it.
#[test]
fn threads_change_no_product_of_bf16() {
    if !is_supported() {
        return;
    }
    let tokens = (random([1, 1, 2051, 201], 1), random([201, 300], 2), random([300], 3));
    let window = Window { size: 3, stride: 2, padding: 1 };
    let map = (random([3, 31, 30, 33], 4), random([9 * 33, 40], 5), random([40], 6));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let of_tokens = |x, weight, bias| {
            linear(x, &Weight::Plain(weight), Some(bias), LinearFusion::default())
        };
        let of_patches =
            |x, weight, bias| convolution(x, &Weight::Plain(weight), bias, window, false);
        let passes = pool.install(|| {
            [
                pass(Precision::Bf16, &tokens, &random([1, 1, 2051, 300], 7), of_tokens),
                pass(Precision::Bf16, &map, &random([3, 16, 15, 40], 8), of_patches),
            ]
        });
        passes.map(|pass| pass.map(values))
    };
    let expected = run(1);
    for threads in [2, 3, 5] {
        assert!(run(threads) == expected, "{threads} threads");
    }
}

/// The innermost pass counts, and none outlives its end.
#[test]
fn autocast_ends_with_its_pass() {
    let (x, weight) = (random([1, 5, 7], 1).autodiff(), Weight::Plain(random([7, 3], 2)));
    let product = || values(linear(x.clone(), &weight, None, LinearFusion::default()));
    let exact = product();
    if !is_supported() {
        let refused = catch_unwind(AssertUnwindSafe(|| autocast(Precision::Bf16, product)));
        assert!(refused.is_err(), "without such products there is no pass");
        assert!(product() == exact);
        return;
    }
    let [before, within, after] =
        autocast(Precision::Bf16, || [product(), autocast(Precision::F32, product), product()]);
    assert!(within == exact && before == after && before != exact);
    assert!(product() == exact, "after a pass");
    let ended =
        catch_unwind(AssertUnwindSafe(|| autocast(Precision::Bf16, || panic!("of the pass"))));
    assert!(ended.is_err() && product() == exact, "after a panic");
}
