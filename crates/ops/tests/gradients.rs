//! Gradients against central differences.

mod numbers;

use biformer_ops::{
    BiasedAttentionOptions, LinearFusion, Norm, RegionGrid, Roi, RoiAlignOptions,
    RoutedAttentionOptions, RoutingOptions, Weight, Window, batch_norm, biased_attention,
    convolution, convolution_weight, depthwise_conv, global_attention, layer_norm, linear,
    roi_align, route, routed_attention,
};
use burn::tensor::{Device, Tensor, TensorData};
use numbers::{assert_close, numbers, values};

/// Half the distance of a central difference.
///
/// Rounding and truncation balance here: the losses below are near 1, so that one is exact to
/// about 1e-6 and its difference to 1e-6 / (2 · 2⁻⁶) = 3e-5; the third derivative of a softmax of
/// such logits is near 1, which adds 2⁻¹² / 6 = 4e-5.
const STEP: f32 = 1.0 / 64.0;

/// Twice the error that the step explains; the gradients are up to 1 in size.
const TOLERANCE: f32 = 1.5e-4;

/// Compares the gradient of every input of `operator` with central differences of
/// Σ coefficient · output.
fn check<const N: usize>(
    what: &str,
    inputs: [Tensor<4>; N],
    operator: impl Fn([Tensor<4>; N]) -> Tensor<4>,
) {
    let loss = |inputs: [Tensor<4>; N]| {
        let output = operator(inputs);
        let coefficients = numbers(output.dims(), 99, &output.device());
        (output * coefficients).sum()
    };
    let device = Device::default().autodiff();
    let tracked = inputs.clone().map(|x| Tensor::from_data(x.into_data(), &device).require_grad());
    let gradients = loss(tracked.clone()).backward();
    for (input, tracked) in tracked.iter().enumerate() {
        let gradient = tracked.grad(&gradients).expect("a gradient");
        let shape = inputs[input].dims();
        let point = values(inputs[input].clone());
        let loss_at = |i: usize, step: f32| -> f32 {
            let mut moved = point.clone();
            moved[i] += step;
            let mut inputs = inputs.clone();
            inputs[input] = Tensor::from_data(TensorData::new(moved, shape), &Device::default());
            loss(inputs).into_scalar()
        };
        let difference = |i| (loss_at(i, STEP) - loss_at(i, -STEP)) / (2.0 * STEP);
        let expected: Vec<f32> = (0..point.len()).map(difference).collect();
        let largest = expected.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
        assert!(largest > 0.05, "{what}: input {input} has no gradient that could be compared");
        assert_close(&format!("{what}, input {input}"), &values(gradient), &expected, TOLERANCE);
    }
}

#[test]
fn of_routed_attention() {
    let device = Device::default();
    for (grid, mask_padding) in [
        (RegionGrid::pad_first(4, 4, 2), false),
        (RegionGrid::pad_first(3, 5, 2), false),
        (RegionGrid::pad_first(3, 5, 2), true),
        (RegionGrid::floor(5, 3, 2), true),
    ] {
        let inputs = [1, 2, 3].map(|seed| numbers([1, grid.height, grid.width, 4], seed, &device));
        let [q, k, _] = inputs.clone().map(|x| grid.pad(x));
        // Fixed: a step that changes the choice of regions has no derivative.
        let routing = RoutingOptions { topk: 2, exclude_padding: true, mask_padding };
        let graph = route(&q, &k, &grid, &routing);
        let options = RoutedAttentionOptions { num_heads: 2, scale: 0.5, mask_padding };
        check(&format!("{grid:?}, mask {mask_padding}"), inputs, |inputs| {
            let [q, k, v] = inputs.map(|x| grid.pad(x));
            let graph = Tensor::from_data(graph.clone().into_data(), &q.device());
            grid.crop(routed_attention(q, k, v, graph, &grid, &options))
        });
    }
}

#[test]
fn of_global_attention() {
    let device = Device::default();
    let inputs = [1, 2, 3].map(|seed| numbers([2, 2, 3, 4], seed, &device));
    check("global attention", inputs, |[q, k, v]| global_attention(q, k, v, 2, 0.5));
}

#[test]
fn of_depthwise_conv() {
    let device = Device::default();
    for (kernel_size, size) in [(3, [2, 4, 3, 2]), (5, [1, 3, 6, 3]), (5, [2, 1, 2, 2])] {
        let channels = size[3];
        let inputs = [
            numbers(size, 1, &device),
            numbers([channels, 1, kernel_size, kernel_size], 2, &device),
            numbers([1, 1, 1, channels], 3, &device),
        ];
        check(&format!("kernel {kernel_size}, map {size:?}"), inputs, |[x, weight, bias]| {
            depthwise_conv(x, weight, bias.reshape([channels]))
        });
    }
}

/// Rows of five: a vector of four and a rest, or a rest alone.
#[test]
fn of_layer_norm() {
    let device = Device::default();
    let inputs = [
        numbers([2, 1, 3, 5], 1, &device),
        numbers([1, 1, 1, 5], 2, &device),
        numbers([1, 1, 1, 5], 3, &device),
    ];
    // A large epsilon keeps the third derivative small where a row varies little.
    check("layer norm", inputs, |[x, gamma, beta]| {
        layer_norm(x, gamma.reshape([5]), beta.reshape([5]), 1.0)
    });
}

#[test]
fn of_batch_norm() {
    let device = Device::default();
    let inputs = [
        numbers([1, 1, 7, 3], 1, &device),
        numbers([1, 1, 1, 3], 2, &device),
        numbers([1, 1, 1, 3], 3, &device),
    ];
    check("batch norm", inputs, |[x, gamma, beta]| {
        let (x, [gamma, beta]) = (x.reshape([7, 3]), [gamma, beta].map(|v| v.reshape([3])));
        batch_norm(x, gamma, beta, 1.0).0.reshape([1, 1, 7, 3])
    });
}

/// With all that stands around the product: the differences see it as one kernel.
#[test]
fn of_linear() {
    let device = Device::default();
    let inputs = [
        numbers([1, 2, 2, 5], 1, &device),
        numbers([1, 1, 5, 3], 2, &device),
        numbers([1, 1, 1, 3], 3, &device),
        numbers([1, 1, 1, 5], 4, &device),
        numbers([1, 1, 1, 5], 5, &device),
        numbers([1, 2, 2, 3], 6, &device),
    ];
    check("linear", inputs, |[x, weight, bias, gamma, beta, residual]| {
        let (gamma, beta) = (gamma.reshape([5]), beta.reshape([5]));
        let norm = Some(Norm { gamma, beta, epsilon: 1.0 });
        let fusion = LinearFusion { norm, gelu: true, residual: Some(residual) };
        linear(x, &Weight::Plain(weight.reshape([5, 3])), Some(bias.reshape([3])), fusion)
    });
}

/// Stem and merging in small: overlapping windows with padding, windows side by side.
#[test]
fn of_convolution() {
    let device = Device::default();
    for (size, stride, padding) in [(3, 2, 1), (2, 2, 0)] {
        let window = Window { size, stride, padding };
        let inputs = [
            numbers([2, 5, 4, 2], 1, &device),
            numbers([3, 2, size, size], 2, &device),
            numbers([1, 1, 1, 3], 3, &device),
        ];
        check(&format!("{window:?}"), inputs, |[x, kernel, bias]| {
            let weight = Weight::Plain(convolution_weight(kernel));
            convolution(x, &weight, bias.reshape([3]), window, true)
        });
    }
}

/// Overlapping boxes, one of them over the edge.
#[test]
fn of_roi_align() {
    let rois = [
        Roi { picture: 0, xyxy: [2.0, 1.0, 9.0, 7.0] },
        Roi { picture: 1, xyxy: [-3.0, 2.0, 5.0, 12.0] },
        Roi { picture: 0, xyxy: [4.0, 3.0, 6.0, 4.0] },
    ];
    for (output_size, sampling_ratio, aligned) in [(3, 0, true), (2, 2, false)] {
        let options = RoiAlignOptions { output_size, spatial_scale: 0.5, sampling_ratio, aligned };
        let x = numbers([2, 4, 5, 3], 1, &Device::default());
        check(&format!("{options:?}"), [x], |[x]| roi_align(x, &rois, &options));
    }
}

/// A bias for all windows, and one for each.
#[test]
fn of_biased_attention() {
    let device = Device::default();
    let options = BiasedAttentionOptions { num_heads: 2, scale: 0.7 };
    for windows in [1, 2] {
        let [query, key, value] = [3, 4, 4].map(|tokens| [2, 2, tokens, 4]);
        let shapes = [query, key, value, [windows, 2, 3, 4]];
        let mut seed = 0;
        let inputs = shapes.map(|shape| {
            seed += 1;
            numbers(shape, seed, &device)
        });
        check(&format!("{windows} biases"), inputs, |[query, key, value, bias]| {
            biased_attention(query, key, value, Some(bias), &options)
        });
    }
}

/// Routing chooses and carries no gradient, even if its inputs are tracked.
#[test]
fn routing_has_none() {
    let device = Device::default().autodiff();
    let grid = RegionGrid::pad_first(4, 4, 2);
    let q = numbers([1, 4, 4, 4], 1, &device).require_grad();
    let k = numbers([1, 4, 4, 4], 2, &device).require_grad();
    let graph = route(&q, &k, &grid, &RoutingOptions { topk: 2, ..Default::default() });
    let gradients = (graph.float().sum() + q.clone().sum()).backward();
    let of_query = q.grad(&gradients).expect("that of its sum");
    assert_eq!(values(of_query), [1.0; 64]);
    assert!(k.grad(&gradients).is_none());
}
