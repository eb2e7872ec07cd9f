//! Operators on a GPU against the same on the CPU: outputs and gradients. Any device of the feature's
//! kind will do, in software too; without one the tests fail.
#![cfg(feature = "gpu")]

#[allow(dead_code, reason = "other tests use the rest")]
mod numbers;

mod gpu {
    mod attention;
    mod half;
    mod products;

    use biformer_ops::{
        RegionGrid, RoutingOptions, depthwise_conv, depthwise_conv_add, gelu, layer_norm,
        prepare_depthwise_weight, region_means, route,
    };
    use burn::tensor::{Device, DeviceType, Tensor};

    use crate::numbers::{numbers, values};

    /// Both sides sum in another order; at most 700 products a value with 6e-8 for each rounding, and
    /// the exponential of a GPU, which is good to 3 units in the last place of its argument.
    const SUMS: f32 = 2e-5;

    #[cfg(feature = "cuda")]
    const KIND: DeviceType = DeviceType::Cuda;
    #[cfg(all(feature = "metal", not(feature = "cuda")))]
    const KIND: DeviceType = DeviceType::Metal;
    #[cfg(all(feature = "vulkan", not(any(feature = "cuda", feature = "metal"))))]
    const KIND: DeviceType = DeviceType::Vulkan;
    #[cfg(not(any(feature = "cuda", feature = "metal", feature = "vulkan")))]
    const KIND: DeviceType = DeviceType::Wgpu;

    /// The first device of that kind.
    fn device() -> Device {
        Device::enumerate(KIND).first().cloned().unwrap_or_else(|| {
            let cure = "CONTRIBUTING.md says how to get one in software";
            panic!("the driver finds no device of type {KIND:?}: {cure}")
        })
    }

    /// Named results of an operator.
    type Results = Vec<(&'static str, Vec<f32>)>;

    /// Every number within `bound` of the largest one on the CPU.
    fn assert_agrees(what: &str, bound: f32, run: impl Fn(&Device) -> Results) {
        let (found, expected) = (run(&device()), run(&Device::flex()));
        for ((name, found), (_, expected)) in found.into_iter().zip(expected) {
            assert_eq!(found.len(), expected.len(), "{what}, {name}: number of elements");
            let scale = expected.iter().fold(0.1, |max: f32, x| max.max(x.abs()));
            for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
                // Not `>`, so that what is no number fails as well.
                let is_close = (f - e).abs() <= bound * scale;
                assert!(is_close, "{what}, {name}[{i}]: {f} on the GPU, {e} on the CPU");
            }
        }
    }

    /// Output and gradients of the inputs under a loss that weights every output otherwise.
    fn with_gradients<const N: usize>(
        inputs: [(&'static str, Tensor<4>); N],
        operator: impl Fn([Tensor<4>; N]) -> Tensor<4>,
    ) -> Results {
        let names = inputs.each_ref().map(|(name, _)| *name);
        let inputs = inputs.map(|(_, x)| x.autodiff().require_grad());
        let output = operator(inputs.clone());
        let coefficients = numbers(output.dims(), 77, &output.device().inner()).autodiff();
        let gradients = (output.clone() * coefficients).sum().backward();
        let mut results = vec![("output with gradients", values(output.inner()))];
        for (name, input) in names.into_iter().zip(inputs) {
            results.push((name, values(input.grad(&gradients).expect("a gradient"))));
        }
        results
    }

    /// A parameter of each channel.
    fn vector(x: Tensor<4>) -> Tensor<1> {
        let [.., channels] = x.dims();
        x.reshape([channels])
    }

    #[test]
    fn depthwise_conv_agrees() {
        for (size, channels, kernel) in [([2, 14, 14], 24, 5), ([1, 5, 3], 7, 3)] {
            let [batch, height, width] = size;
            assert_agrees(&format!("{size:?}, {channels} channels"), SUMS, |device| {
                let map = |seed| numbers([batch, height, width, channels], seed, device);
                let weight = numbers([channels, 1, kernel, kernel], 2, device);
                let bias = numbers([channels], 3, device);
                let sum = depthwise_conv_add(map(1), weight.clone(), bias.clone(), map(4));
                let prepared = prepare_depthwise_weight(weight.clone());
                let mut results = vec![
                    ("with a residual", values(sum)),
                    ("prepared", values(depthwise_conv(map(1), prepared, bias.clone()))),
                ];
                let bias = bias.reshape([1, 1, 1, channels]);
                let inputs =
                    [("x", map(1)), ("weight", weight), ("bias", bias), ("residual", map(4))];
                results.extend(with_gradients(inputs, |[x, weight, bias, residual]| {
                    depthwise_conv_add(x.clone(), weight.clone(), vector(bias.clone()), residual)
                        + depthwise_conv(x, weight, vector(bias))
                }));
                results
            });
        }
    }

    #[test]
    fn layer_norm_agrees() {
        for channels in [24, 33] {
            assert_agrees(&format!("{channels} channels"), SUMS, |device| {
                let row = |seed| numbers([1, 1, 1, channels], seed, device);
                let x = numbers([2, 5, 3, channels], 1, device) * 3.0 + 1.0;
                let inputs = [("x", x), ("gamma", row(2)), ("beta", row(3))];
                with_gradients(inputs, |[x, gamma, beta]| {
                    layer_norm(x, vector(gamma), vector(beta), 1e-6)
                })
            });
        }
    }

    #[test]
    fn region_means_agree() {
        for exclude_padding in [false, true] {
            assert_agrees(&format!("exclude padding {exclude_padding}"), SUMS, |device| {
                let grid = RegionGrid::pad_first(7, 5, 3);
                let x = grid.pad(numbers([2, 7, 5, 24], 1, device));
                vec![("means", values(region_means(x, &grid, exclude_padding)))]
            });
        }
    }

    #[test]
    fn gelu_agrees() {
        assert_agrees("GELU", SUMS, |device| {
            with_gradients([("x", numbers([2, 5, 3, 24], 1, device) * 3.0)], |[x]| gelu(x))
        });
    }

    #[test]
    fn routing_agrees() {
        // In the last one five of nine regions are nothing but padding.
        for (grid, exclude_padding, mask_padding, topk) in [
            (RegionGrid::pad_first(14, 14, 7), false, false, 4),
            (RegionGrid::pad_first(7, 5, 3), true, false, 2),
            (RegionGrid::pad_first(7, 5, 3), false, false, 9),
            (RegionGrid::pad_first(4, 4, 3), false, true, 4),
        ] {
            let what = format!("{grid:?}, topk {topk}");
            let [height, width] = grid.padded_size();
            assert_agrees(&what, SUMS, |device| {
                let map = |seed| grid.pad(numbers([2, grid.height, grid.width, 24], seed, device));
                let (query, key) = (map(1), map(2));
                assert_eq!(query.dims(), [2, height, width, 24]);
                let means = region_means(query.clone(), &grid, exclude_padding);
                let options = RoutingOptions { topk, exclude_padding, mask_padding };
                let graph = route(&query, &key, &grid, &options);
                vec![("means", values(means)), ("graph", values(graph.float()))]
            });
        }
    }
}
