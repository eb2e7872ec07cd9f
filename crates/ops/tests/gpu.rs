//! Operators on a GPU against the same on the CPU: outputs and gradients. Any device of the feature's
//! kind will do, in software too; without one the tests fail.
#![cfg(feature = "gpu")]

#[allow(dead_code, reason = "other tests use the rest")]
mod numbers;

mod gpu {
    use biformer_ops::{
        GpuBackend, Precision, RegionGrid, RoutedAttentionOptions, RoutingOptions, Weight, Window,
        autocast, convolution, depthwise_conv, depthwise_conv_add, depthwise_conv_reference, gelu,
        global_attention, layer_norm, layer_norm_reference, linear, region_means, route,
        routed_attention, routed_attention_lce, routed_attention_traced, split_qkv,
    };
    use burn::backend::Dispatch;
    use burn::tensor::{DType, Device, DeviceType, Int, Tensor, TensorData};

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

    /// Query, key and value as slices of one map.
    fn slices(size: [usize; 3], channels: usize, device: &Device) -> [Tensor<4>; 3] {
        let [batch, height, width] = size;
        let qkv = numbers([batch, height, width, 3 * channels], 5, device) * 2.0;
        [0, 1, 2].map(|i| qkv.clone().narrow(3, i * channels, channels))
    }

    /// A region graph without a pattern, in which some regions are routed to often and some never.
    fn some_graph(batch: usize, grid: &RegionGrid, topk: usize, device: &Device) -> Tensor<3, Int> {
        let regions = grid.regions();
        let graph = (0..batch * regions * topk).map(|i| ((i * i + i / 3) % regions) as i64);
        let data = TensorData::new(graph.collect::<Vec<_>>(), [batch, regions, topk]);
        Tensor::from_data(data, device)
    }

    struct Case {
        grid: RegionGrid,
        num_heads: usize,
        head_dim: usize,
        topk: usize,
        mask_padding: bool,
    }

    /// Regions of 1 to 81 tokens; heads that fill vectors or do not; maps that need padding or do not.
    fn cases() -> Vec<Case> {
        let case = |grid, num_heads, head_dim, topk| Case {
            grid,
            num_heads,
            head_dim,
            topk,
            mask_padding: false,
        };
        let (odd, floor) = (RegionGrid::pad_first(7, 5, 3), RegionGrid::floor(9, 11, 4));
        vec![
            case(RegionGrid::pad_first(5, 4, 5), 2, 16, 3),
            case(RegionGrid::pad_first(14, 14, 7), 2, 32, 4),
            case(RegionGrid::pad_first(14, 14, 7), 3, 20, 49),
            case(RegionGrid::pad_first(12, 9, 3), 1, 5, 2),
            case(RegionGrid::pad_first(18, 18, 2), 2, 32, 1),
            case(RegionGrid::pad_first(18, 17, 2), 1, 33, 3),
            case(RegionGrid::pad_first(8, 8, 2), 1, 64, 2),
            case(RegionGrid::pad_first(4, 6, 2), 2, 128, 3),
            case(odd, 3, 20, 8),
            Case { mask_padding: true, ..case(odd, 3, 20, 8) },
            Case { mask_padding: true, ..case(floor, 2, 16, floor.regions() - 1) },
        ]
    }

    impl Case {
        fn name(&self) -> String {
            let Self { grid, num_heads, head_dim, topk, mask_padding } = self;
            format!("{grid:?}, {num_heads} × {head_dim}, topk {topk}, mask {mask_padding}")
        }

        fn options(&self) -> RoutedAttentionOptions {
            let Self { num_heads, mask_padding, .. } = *self;
            let scale = (self.head_dim as f64).powf(-0.5);
            RoutedAttentionOptions { num_heads, scale, mask_padding }
        }

        fn qkv(&self, device: &Device) -> [Tensor<4>; 3] {
            let [height, width] = self.grid.padded_size();
            slices([2, height, width], self.num_heads * self.head_dim, device)
        }

        fn attend(&self, [query, key, value]: [Tensor<4>; 3], device: &Device) -> Tensor<4> {
            let graph = some_graph(2, &self.grid, self.topk, device);
            routed_attention(query, key, value, graph, &self.grid, &self.options())
        }
    }

    #[test]
    fn routed_attention_agrees() {
        for case in cases() {
            assert_agrees(&case.name(), SUMS, |device| {
                vec![("output", values(case.attend(case.qkv(device), device)))]
            });
        }
    }

    /// Without gradients it is the kernel that answers, to the bit: the definition rounds otherwise.
    #[test]
    fn routed_attention_is_fused() {
        let device = device();
        for case in cases() {
            let [query, key, value] = case.qkv(&device).map(Tensor::into_dispatch);
            let graph = some_graph(2, &case.grid, case.topk, &device).into_dispatch();
            let (grid, options) = (case.grid, case.options());
            let fused = Dispatch::gpu_routed_attention(query, key, value, graph, grid, options);
            let found = case.attend(case.qkv(&device), &device);
            assert_eq!(values(found), values(Tensor::<4>::from_dispatch(fused)), "{}", case.name());
        }
    }

    #[test]
    fn routed_attention_takes_any_layout() {
        let grid = RegionGrid::pad_first(4, 6, 2);
        let case = Case { grid, num_heads: 2, head_dim: 10, topk: 3, mask_padding: false };
        assert_agrees("channels first, and within a larger map", SUMS, |device| {
            let permuted = |seed| numbers([2, 20, 4, 6], seed, device).permute([0, 2, 3, 1]);
            let inner = numbers([3, 7, 6, 20], 3, device).slice([1..3, 2..6, 0..6]);
            let output = case.attend([permuted(1), inner, permuted(2)], device);
            vec![("output", values(output))]
        });
    }

    /// Logits far apart: all weight on one key, and none on most.
    #[test]
    fn routed_attention_takes_large_logits() {
        let grid = RegionGrid::pad_first(6, 6, 2);
        let case = Case { grid, num_heads: 2, head_dim: 16, topk: 3, mask_padding: false };
        // Logits near 3000 are exact to 2e-4, and so are the weights.
        assert_agrees("large logits", 1e-3, |device| {
            let qkv = case.qkv(device).map(|x| x.mul_scalar(20.0));
            vec![("output", values(case.attend(qkv, device)))]
        });
    }

    #[test]
    fn routed_attention_with_lce_agrees() {
        let odd = RegionGrid::pad_first(7, 5, 3);
        for (grid, channels, mask_padding) in
            [(RegionGrid::pad_first(14, 14, 7), 32, false), (odd, 20, true)]
        {
            let options = RoutedAttentionOptions { num_heads: 2, scale: 0.2, mask_padding };
            let [height, width] = grid.padded_size();
            assert_agrees(&format!("{grid:?}, with LCE"), SUMS, |device| {
                let qkv = numbers([2, height, width, 3 * channels], 1, device);
                let weight = numbers([channels, 1, 5, 5], 2, device);
                let bias = numbers([1, 1, 1, channels], 3, device);
                let graph = some_graph(2, &grid, 4, device);
                let attend = |qkv, weight, bias| {
                    routed_attention_lce(qkv, graph.clone(), weight, bias, &grid, &options)
                };
                let output = attend(qkv.clone(), weight.clone(), vector(bias.clone()));
                let mut results = vec![("output", values(output))];
                let inputs = [("qkv", qkv), ("weight", weight), ("bias", bias)];
                results.extend(with_gradients(inputs, |[qkv, weight, bias]| {
                    attend(qkv, weight, vector(bias))
                }));
                results
            });
        }
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
                let mut results = vec![("with a residual", values(sum))];
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

    #[test]
    fn gradients_of_routed_attention_agree() {
        for case in cases() {
            assert_agrees(&case.name(), SUMS, |device| {
                let [query, key, value] = case.qkv(device);
                let inputs = [("query", query), ("key", key), ("value", value)];
                with_gradients(inputs, |qkv| case.attend(qkv, device))
            });
        }
    }

    #[test]
    fn global_attention_agrees() {
        for ([height, width], num_heads, head_dim) in
            [([7, 7], 2, 64), ([1, 1], 3, 8), ([5, 3], 2, 33), ([13, 2], 1, 16)]
        {
            assert_agrees(&format!("{height} × {width}, {head_dim}"), SUMS, |device| {
                let [query, key, value] = slices([2, height, width], num_heads * head_dim, device);
                let inputs = [("query", query), ("key", key), ("value", value)];
                with_gradients(inputs, |[q, k, v]| global_attention(q, k, v, num_heads, 0.2))
            });
        }
    }

    /// Attention with LCE of maps of a type, of numbers rounded to another, and the gradient of Q, K and V, by
    /// kernels or by definitions.
    fn attention_in(
        [half, dtype]: [DType; 2],
        device: &Device,
        by_definition: bool,
    ) -> Vec<Vec<f32>> {
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
    fn layer_norm_in(
        [half, dtype]: [DType; 2],
        device: &Device,
        by_definition: bool,
    ) -> Vec<Vec<f32>> {
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

    /// Maps in half the bytes: the error of a kernel is at most twice that of the definition in the same
    /// type, both against float32, since the kernel rounds less often: sums are float32 in it.
    #[test]
    fn half_precision_has_at_most_twice_the_error() {
        let device = device();
        for dtype in [DType::F16, DType::BF16] {
            if !device.supports_dtype(dtype) {
                eprintln!("not tested: this device has no {dtype:?}");
                continue;
            }
            for (name, run) in [
                ("attention", attention_in as fn([DType; 2], &Device, bool) -> Vec<Vec<f32>>),
                ("layer norm", layer_norm_in),
            ] {
                let exact = run([dtype, DType::F32], &Device::flex(), false);
                let [fused, defined] = [false, true].map(|by_definition| {
                    let found = run([dtype; 2], &device, by_definition);
                    let error = |(found, exact): (&Vec<f32>, &Vec<f32>)| {
                        let pairs = found.iter().zip(exact);
                        pairs.fold(0.0, |max: f32, (f, e)| max.max((f - e).abs()))
                    };
                    found.iter().zip(&exact).map(error).collect::<Vec<_>>()
                });
                for (fused, defined) in fused.into_iter().zip(defined) {
                    assert!(fused <= 2.0 * defined, "{name}, {dtype:?}: {fused} and {defined}");
                }
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
                    autocast(precision, || {
                        linear(x, &weight, Some(bias.clone()), Default::default())
                    })
                }));
                results
            });
        }
    }

    /// Products of matrices, which autotuning times several kernels of Burn for. Some of these are wrong
    /// on SwiftShader, where numbers that CubeCL 0.11 puts into shared memory overwrite each other.
    mod products {
        use super::*;

        #[test]
        fn convolution_agrees() {
            let window = Window { size: 3, stride: 2, padding: 1 };
            assert_agrees("3 × 3 with a stride of 2", SUMS, |device| {
                let weight = numbers([9 * 12, 16], 2, device).autodiff();
                let bias = numbers([16], 3, device).autodiff();
                with_gradients([("x", numbers([2, 9, 7, 12], 1, device))], |[x]| {
                    convolution(x, &Weight::Plain(weight.clone()), bias.clone(), window, false)
                })
            });
        }

        #[test]
        fn linear_agrees() {
            assert_agrees("24 to 48", SUMS, |device| {
                let weight = numbers([24, 48], 2, device).autodiff();
                let bias = numbers([48], 3, device).autodiff();
                with_gradients([("x", numbers([2, 5, 3, 24], 1, device))], |[x]| {
                    linear(
                        x,
                        &Weight::Plain(weight.clone()),
                        Some(bias.clone()),
                        Default::default(),
                    )
                })
            });
        }
    }
}
