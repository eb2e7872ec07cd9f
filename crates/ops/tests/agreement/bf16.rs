//! Products of bfloat16, on processors that have them: against float32 products of rounded numbers.

use biformer_ops::{
    LinearFusion, Norm, Precision, Weight, Window, convolution, convolution_reference,
    convolution_weight, layer_norm, linear, linear_reference,
};
use burn::tensor::{DType, Device, FloatDType, Tensor, activation};

use crate::numbers::{assert_close, values};
use crate::products::{SHAPES, SUMS, random};

fn packed(weight: &Tensor<2>) -> Weight {
    Weight::Plain(weight.clone()).pack_in(Precision::Bf16)
}

/// Whether this processor has such products.
pub fn is_supported() -> bool {
    let check = Precision::Bf16.check(&Device::flex());
    if let Err(reason) = &check {
        eprintln!("skipped: {reason}");
    }
    check.is_ok()
}

/// The nearest numbers with 8 bits of mantissa, as float32.
pub fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::BF16).cast(FloatDType::F32)
}

/// Both are off by roundings of the inputs, at random: the kernel at most twice as far as the
/// definition on rounded inputs. Sums of small matrices are off by a rounding of theirs, 1e-6.
pub fn assert_no_worse<const D: usize>(
    what: &str,
    found: Tensor<D>,
    definition: Tensor<D>,
    exact: Tensor<D>,
) {
    let error = |x: Tensor<D>| (x - exact.clone()).abs().max().into_scalar::<f32>();
    let (found, expected) = (error(found), error(definition));
    assert!(found <= 2.0 * expected + 1e-6, "{what}: off by {found}, the definition by {expected}");
}

/// Sums are those of float32, in another order: what is lost is lost by rounding the inputs.
#[test]
fn bf16_rounds_nothing_but_its_inputs() {
    if !is_supported() {
        return;
    }
    for [rows, dim_in, dim_out] in SHAPES {
        let what = format!("linear {rows} × {dim_in} × {dim_out} in bf16");
        let (x, weight) = (random([1, rows, dim_in], 1), random([dim_in, dim_out], 2));
        let bias = Some(random([dim_out], 3));
        assert_eq!(packed(&weight).dims(), [dim_in, dim_out]);
        let found = linear(x.clone(), &packed(&weight), bias.clone(), LinearFusion::default());
        assert_eq!(found.dtype(), DType::F32, "{what}");
        let expected = linear_reference(rounded(x), rounded(weight), bias);
        assert_close(&what, &values(found), &values(expected), SUMS);
    }
}

#[test]
fn bf16_is_fused_with_norm_gelu_and_residual() {
    if !is_supported() {
        return;
    }
    for [rows, dim_in, dim_out] in SHAPES {
        let x = random([1, rows, dim_in], 1) * 3.0 + 0.5;
        let weight = random([dim_in, dim_out], 2);
        let bias = Some(random([dim_out], 3));
        let residual = random([1, rows, dim_out], 4);
        let norm = Norm { gamma: random([dim_in], 5), beta: random([dim_in], 6), epsilon: 1e-6 };
        let normed = layer_norm(x.clone(), norm.gamma.clone(), norm.beta.clone(), norm.epsilon);
        let definition = |x, weight| {
            activation::gelu(linear_reference(x, weight, bias.clone())) + residual.clone()
        };
        let exact = definition(normed.clone(), weight.clone());
        let expected = definition(rounded(normed), rounded(weight.clone()));
        let residual = Some(residual.clone());
        let fusion = LinearFusion { norm: Some(norm), gelu: true, residual };
        let found = linear(x, &packed(&weight), bias.clone(), fusion);
        let what = format!("fused linear {rows} × {dim_in} × {dim_out} in bf16");
        assert_no_worse(&what, found, expected, exact);
    }
}

/// A patch of a picture has 27 numbers, so that the last pair is half empty.
#[test]
fn bf16_convolutions_agree() {
    if !is_supported() {
        return;
    }
    let window = Window { size: 3, stride: 2, padding: 1 };
    for (channels_in, channels_out) in [(3, 16), (3, 40), (32, 64), (5, 7)] {
        let x = random([2, 14, 11, channels_in], 1);
        let weight = convolution_weight(random([channels_out, channels_in, 3, 3], 2));
        let bias = random([channels_out], 3);
        let found = convolution(x.clone(), &packed(&weight), bias.clone(), window, true);
        let definition =
            |x, weight| activation::gelu(convolution_reference(x, weight, bias.clone(), window));
        let exact = definition(x.clone(), weight.clone());
        let what = format!("convolution of {channels_in} channels to {channels_out} in bf16");
        assert_no_worse(&what, found, definition(rounded(x), rounded(weight)), exact);
    }
}

#[test]
fn bf16_does_not_depend_on_the_number_of_threads() {
    if !is_supported() {
        return;
    }
    let (x, weight) = (random([1, 700, 201], 1), packed(&random([201, 300], 2)));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| values(linear(x.clone(), &weight, None, LinearFusion::default())))
    };
    let expected = run(1);
    for threads in [2, 3, 5] {
        assert!(run(threads) == expected, "{threads} threads");
    }
}

#[test]
fn processors_without_bf16_say_so() {
    let Err(reason) = Precision::Bf16.check(&Device::flex()) else { return };
    assert!(reason.contains("avx512_bf16"), "{reason}");
    let packed = std::panic::catch_unwind(|| packed(&random([4, 4], 1)));
    assert!(packed.is_err());
    assert_eq!(Precision::F32.check(&Device::flex()), Ok(()));
}
