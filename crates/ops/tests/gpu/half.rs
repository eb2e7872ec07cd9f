//! Maps in half the bytes, and products of rounded numbers, where the device has such types.

use biformer_ops::{
    Precision, RegionGrid, RoutedAttentionOptions, Weight, autocast, depthwise_conv_reference,
    layer_norm, layer_norm_reference, linear, routed_attention_lce, routed_attention_traced,
    split_qkv,
};
use burn::tensor::{DType, Device, Tensor};

use super::attention::{cases, some_graph};
use super::{assert_agrees, device, vector, with_gradients};
use crate::numbers::{numbers, values};

/// Attention with LCE of maps of a type, of numbers rounded to another, and the gradient of Q, K and V, by
/// kernels or by definitions.
fn attention_in([half, dtype]: [DType; 2], device: &Device, by_definition: bool) -> Vec<Vec<f32>> {
    let grid = RegionGrid::pad_first(14, 14, 7);
    let options = RoutedAttentionOptions { num_heads: 2, scale: 0.2, mask_padding: false };
    let rounded = |x: Tensor<4>| x.cast(half).cast(dtype);
    let qkv = rounded(numbers([2, 14, 14, 96], 1, &Device::flex()) * 2.0);
    let qkv = on(qkv, device).autodiff().require_grad();
    let weight = on(rounded(numbers([32, 1, 5, 5], 2, &Device::flex())), device).autodiff();
    let bias = Tensor::zeros([32], (&device.clone().autodiff(), dtype));
    let graph = some_graph(2, &grid, 4, device);
    let output = if by_definition {
        let [query, key, value] = split_qkv(qkv.clone());
        let lce = depthwise_conv_reference(value.clone(), weight, bias);
        routed_attention_traced(query, key, value, graph, &grid, &options).output + lce
    } else {
        routed_attention_lce(qkv.clone(), graph, weight, bias, &grid, &options)
    };
    let coefficients = rounded(numbers([2, 14, 14, 32], 7, &Device::flex()));
    let loss = output.clone() * on(coefficients, device).autodiff();
    let gradients = loss.cast(DType::F32).sum().backward();
    let gradient = qkv.grad(&gradients).expect("a gradient");
    [output.inner(), gradient].map(|x| values(x.cast(DType::F32))).to_vec()
}

/// Layer norm of a map, likewise, by the kernel or by its definition.
fn layer_norm_in([half, dtype]: [DType; 2], device: &Device, by_definition: bool) -> Vec<Vec<f32>> {
    let rounded = |x: Tensor<4>| on(x.cast(half).cast(dtype), device);
    let x = rounded(numbers([2, 5, 3, 64], 1, &Device::flex()) * 3.0 + 1.0);
    let [gamma, beta] =
        [2, 3].map(|seed| vector(rounded(numbers([1, 1, 1, 64], seed, &Device::flex()))));
    let norm = if by_definition { layer_norm_reference } else { layer_norm };
    vec![values(norm(x, gamma, beta, 1e-6).cast(DType::F32))]
}

/// The same numbers on another device.
fn on(x: Tensor<4>, device: &Device) -> Tensor<4> {
    let dtype = x.dtype();
    Tensor::from_data(x.into_data(), (device, dtype))
}

/// Types of half the bytes that the device has.
fn half_types(device: &Device) -> Vec<DType> {
    let (found, missing): (Vec<_>, Vec<_>) =
        [DType::F16, DType::BF16].into_iter().partition(|dtype| device.supports_dtype(*dtype));
    for dtype in missing {
        eprintln!("not tested: this device has no {dtype:?}");
    }
    found
}

/// Maps in half the bytes: the error of a kernel is at most twice that of the definition in the same
/// type, both against float32, since the kernel rounds less often: sums are float32 in it.
fn assert_twice_the_error(what: &str, exact: &[Vec<f32>], [fused, defined]: [Vec<Vec<f32>>; 2]) {
    let error = |found: &[f32], exact: &[f32]| {
        let pairs = found.iter().zip(exact);
        // A number that is none is no small error.
        pairs.fold(
            0.0,
            |max: f32, (f, e)| if f.is_nan() { f32::NAN } else { max.max((f - e).abs()) },
        )
    };
    for ((fused, defined), exact) in fused.iter().zip(&defined).zip(exact) {
        assert_eq!(fused.len(), exact.len(), "{what}: number of elements");
        let (fused, defined) = (error(fused, exact), error(defined, exact));
        assert!(fused <= 2.0 * defined, "{what}: {fused} and {defined}");
    }
}

#[test]
fn half_precision_has_at_most_twice_the_error() {
    let device = device();
    for dtype in half_types(&device) {
        for (name, run) in [
            ("attention", attention_in as fn([DType; 2], &Device, bool) -> Vec<Vec<f32>>),
            ("layer norm", layer_norm_in),
        ] {
            let exact = run([dtype, DType::F32], &Device::flex(), false);
            let fused = run([dtype; 2], &device, false);
            let defined = run([dtype; 2], &Device::flex(), true);
            assert_twice_the_error(&format!("{name}, {dtype:?}"), &exact, [fused, defined]);
        }
    }
}

/// All shapes of regions and heads; where the device has products of such tiles, by these.
#[test]
fn routed_attention_in_half_precision_agrees() {
    let device = device();
    for dtype in half_types(&device) {
        for case in cases() {
            // Larger logits come late for some queries, whose sums are then rescaled.
            let qkv = case.qkv(&Device::flex()).map(|x| (x * 3.0).cast(dtype));
            let exact = case.attend(qkv.clone().map(|x| x.cast(DType::F32)), &Device::flex());
            let fused = case.attend(qkv.clone().map(|x| on(x, &device)), &device);
            let defined = case.attend_by_definition(qkv, &Device::flex());
            let found = [fused, defined].map(|output| vec![values(output.cast(DType::F32))]);
            let what = format!("{}, {dtype:?}", case.name());
            assert_twice_the_error(&what, &[values(exact)], found);
        }
    }
}

/// Products of rounded numbers, with float32 around them: of a packed weight, and under autocast.
#[test]
fn half_products_stay_near() {
    let device = device();
    for precision in [Precision::F16, Precision::Bf16] {
        if let Err(reason) = precision.check(&device) {
            eprintln!("not tested: {reason}");
            continue;
        }
        // Both sides and the product are rounded, to 8 bits or more; sums of 24 products.
        assert_agrees(&format!("{precision:?}"), 0.02, |on| {
            let precision = if *on == device { precision } else { Precision::F32 };
            let (x, weight) = (numbers([2, 5, 3, 24], 1, on), numbers([24, 48], 2, on));
            let (plain, bias) = (Weight::Plain(weight.clone()), numbers([48], 3, on));
            let packed = plain.pack_in(precision);
            let product = linear(x.clone(), &packed, Some(bias.clone()), Default::default());
            assert_eq!(product.dtype(), DType::F32);
            let mut results = vec![("with a packed weight", values(product))];
            let (weight, bias) = (Weight::Plain(weight.autodiff()), bias.autodiff());
            results.extend(with_gradients([("x", x)], |[x]| {
                autocast(precision, || linear(x, &weight, Some(bias.clone()), Default::default()))
            }));
            results
        });
    }
}
