//! Fused operators against their definitions: outputs and gradients, on shapes that do not fit
//! vectors, on slices of wider maps, and for any number of threads.

use biformer_ops::{
    RegionGrid, RoutedAttentionOptions, RoutingOptions, depthwise_conv, depthwise_conv_add,
    depthwise_conv_reference, gelu, global_attention, global_attention_traced, layer_norm,
    layer_norm_reference, route, route_reference, routed_attention, routed_attention_lce,
    routed_attention_traced, split_qkv,
};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData, activation};

/// Both sides sum 25 products a value in float32, in another order: 25 roundings of 6e-8, and
/// headroom for the gradient of the weights, which sums over the whole map.
const SUMS: f64 = 2e-5;

/// The fused GELU's error function is a rational function accurate to 5e-7.
const GELU: f64 = 2e-6;

/// The weights differ by the exponential, accurate to 3e-6 of each; sums over at most 576 keys add
/// 576 roundings of 6e-8 at worst.
const ATTENTION: f64 = 2e-5;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::default())
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data_as::<f32>().try_into_vec().expect("float32")
}

fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>, bound: f64) {
    assert_close_to(what, found, expected, bound, 1e-3);
}

/// As [`assert_close`], where a tensor of less than `smallest` counts as that.
fn assert_close_to<const D: usize>(
    what: &str,
    found: Tensor<D>,
    expected: Tensor<D>,
    bound: f64,
    smallest: f32,
) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let scale = expected.iter().fold(smallest, |max: f32, x| max.max(x.abs()));
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

/// Output and the gradients of query, key and value under the same random loss.
fn run_attention(
    qkv: &[Tensor<4>; 3],
    coefficients: &Tensor<4>,
    attention: impl Fn([Tensor<4>; 3]) -> Tensor<4>,
) -> [Tensor<4>; 4] {
    let qkv = qkv.clone().map(|x| x.autodiff().require_grad());
    let output = attention(qkv.clone());
    let gradients = (output.clone() * coefficients.clone().autodiff()).sum().backward();
    let [query, key, value] = qkv.map(|x| x.grad(&gradients).expect("a gradient"));
    [output.inner(), query, key, value]
}

fn assert_attention_close(what: &str, found: [Tensor<4>; 4], expected: [Tensor<4>; 4]) {
    let names = ["output", "query", "key", "value"];
    for ((name, found), expected) in names.into_iter().zip(found).zip(expected) {
        // The gradients of one key's logit cancel to 0, those of two may do so nearly.
        assert_close_to(&format!("{what}, {name}"), found, expected, ATTENTION, 0.1);
    }
}

/// A region graph without a pattern, in which some regions are routed to often and some never.
fn some_graph(batch: usize, grid: &RegionGrid, topk: usize) -> Tensor<3, Int> {
    let regions = grid.regions();
    let graph = (0..batch * regions * topk).map(|i| ((i * i + i / 3) % regions) as i64);
    let data = TensorData::new(graph.collect::<Vec<_>>(), [batch, regions, topk]);
    Tensor::from_data(data, &Device::default())
}

fn check_routed_attention(
    qkv: [Tensor<4>; 3],
    grid: &RegionGrid,
    num_heads: usize,
    topk: usize,
    mask_padding: bool,
) {
    let [batch, _, _, channels] = qkv[0].dims();
    let what =
        format!("{grid:?}, {num_heads} heads of {channels}, topk {topk}, mask {mask_padding}");
    let graph = some_graph(batch, grid, topk);
    let scale = (channels as f64).powf(-0.5);
    let options = RoutedAttentionOptions { num_heads, scale, mask_padding };
    let coefficients = random(qkv[0].dims());
    let fused =
        |[q, k, v]: [Tensor<4>; 3]| routed_attention(q, k, v, graph.clone(), grid, &options);
    let definition = |[q, k, v]: [Tensor<4>; 3]| {
        routed_attention_traced(q, k, v, graph.clone(), grid, &options).output
    };
    let output = fused(qkv.clone());
    let found = run_attention(&qkv, &coefficients, fused);
    assert_eq!(values(output), values(found[0].clone()), "{what}: with and without gradients");
    assert_attention_close(&what, found, run_attention(&qkv, &coefficients, definition));
}

/// Query, key and value as slices of one map.
fn slices([batch, height, width]: [usize; 3], channels: usize) -> [Tensor<4>; 3] {
    let qkv = random([batch, height, width, 3 * channels]);
    [0, 1, 2].map(|i| qkv.clone().narrow(3, i * channels, channels))
}

#[test]
fn routed_attention_agrees_on_any_shape() {
    // Regions of 1, 3, 4, 9, 16, 49 and 64 tokens; heads that fill vectors, tiles, or neither.
    for (region, head_dim) in [
        ([1, 1], 5),
        ([1, 3], 16),
        ([2, 2], 32),
        ([2, 2], 33),
        ([3, 3], 24),
        ([4, 4], 32),
        ([7, 7], 64),
        ([8, 8], 32),
        ([1, 4], 3),
    ] {
        let [height, width] = [3 * region[0], 3 * region[1]];
        let grid = RegionGrid::pad_first(height, width, 3);
        for (topk, num_heads) in [(1, 2), (3, 1), (9, 2)] {
            let qkv = slices([2, height, width], num_heads * head_dim);
            check_routed_attention(qkv, &grid, num_heads, topk, false);
        }
    }
}

/// The attention and LCE as one node of the graph, against both as definitions.
#[test]
fn routed_attention_lce_agrees() {
    for (size, n_win, topk) in [([2, 14, 14], 7, 4), ([1, 6, 10], 2, 3), ([1, 3, 3], 1, 1)] {
        let [batch, height, width] = size;
        let channels = 24;
        let grid = RegionGrid::pad_first(height, width, n_win);
        let [height, width] = grid.padded_size();
        let graph = some_graph(batch, &grid, topk);
        let options = RoutedAttentionOptions { num_heads: 3, scale: 0.2, mask_padding: false };
        let qkv = random([batch, height, width, 3 * channels]);
        let (weight, bias) = (random([channels, 1, 5, 5]), random([channels]));
        let coefficients = random([batch, height, width, channels]).autodiff();
        let run = |fused: bool| {
            let qkv = qkv.clone().autodiff().require_grad();
            let weight = weight.clone().autodiff().require_grad();
            let bias = bias.clone().autodiff().require_grad();
            let (w, b, graph) = (weight.clone(), bias.clone(), graph.clone());
            let output = if fused {
                routed_attention_lce(qkv.clone(), graph, w, b, &grid, &options)
            } else {
                let [q, k, v] = split_qkv(qkv.clone());
                let attended = routed_attention_traced(q, k, v.clone(), graph, &grid, &options);
                attended.output + depthwise_conv_reference(v, w, b)
            };
            let gradients = (output.clone() * coefficients.clone()).sum().backward();
            let gradient = "a gradient";
            (
                output.inner(),
                qkv.grad(&gradients).expect(gradient),
                weight.grad(&gradients).expect(gradient),
                bias.grad(&gradients).expect(gradient),
            )
        };
        let (found, expected) = (run(true), run(false));
        let what = format!("{size:?}, topk {topk}");
        let (w, b) = (weight.clone(), bias.clone());
        let plain = routed_attention_lce(qkv.clone(), graph.clone(), w, b, &grid, &options);
        assert_close(&format!("{what}, without gradients"), plain, expected.0.clone(), SUMS);
        assert_close(&what, found.0, expected.0, SUMS);
        assert_close(&format!("{what}, qkv"), found.1, expected.1, SUMS);
        assert_close(&format!("{what}, weight"), found.2, expected.2, SUMS);
        assert_close(&format!("{what}, bias"), found.3, expected.3, SUMS);
    }
}

#[test]
fn routed_attention_agrees_with_masked_padding() {
    for grid in [RegionGrid::pad_first(7, 5, 3), RegionGrid::floor(9, 11, 4)] {
        let [height, width] = grid.padded_size();
        for (topk, mask_padding) in [(2, true), (2, false), (grid.regions(), true)] {
            // Regions that route to nothing but padding have no weights.
            let topk = if mask_padding { topk.max(grid.regions() - 1) } else { topk };
            let qkv = slices([2, height, width], 3 * 20);
            check_routed_attention(qkv, &grid, 3, topk, mask_padding);
        }
    }
}

#[test]
fn routed_attention_takes_any_layout() {
    let grid = RegionGrid::pad_first(4, 6, 2);
    let permuted = || random([2, 10, 4, 6]).permute([0, 2, 3, 1]);
    check_routed_attention([permuted(), permuted(), permuted()], &grid, 2, 3, false);
    let [query, key, value] = slices([3, 6, 6], 10).map(|x| x.slice([1..3, 2..6, 0..6]));
    check_routed_attention([query, permuted(), value], &grid, 1, 2, false);
    check_routed_attention([key.clone(), key.clone(), key], &grid, 5, 4, false);
}

#[test]
fn global_attention_agrees() {
    for ([height, width], num_heads, head_dim) in
        [([7, 7], 2, 64), ([1, 1], 3, 8), ([5, 3], 2, 33), ([13, 2], 1, 16)]
    {
        let qkv = slices([2, height, width], num_heads * head_dim);
        let coefficients = random(qkv[0].dims());
        let fused = |[q, k, v]: [Tensor<4>; 3]| global_attention(q, k, v, num_heads, 0.2);
        let definition =
            |[q, k, v]: [Tensor<4>; 3]| global_attention_traced(q, k, v, num_heads, 0.2).output;
        let found = run_attention(&qkv, &coefficients, fused);
        let expected = run_attention(&qkv, &coefficients, definition);
        assert_attention_close(&format!("{height} × {width}, {head_dim}"), found, expected);
    }
}

/// Logits far apart: all weight on one key, and none on most.
#[test]
fn attention_takes_large_logits() {
    let qkv = slices([1, 6, 6], 8).map(|x| x.mul_scalar(30.0));
    let coefficients = random(qkv[0].dims());
    let fused = |[q, k, v]: [Tensor<4>; 3]| global_attention(q, k, v, 2, 1.0);
    let definition = |[q, k, v]: [Tensor<4>; 3]| global_attention_traced(q, k, v, 2, 1.0).output;
    let found = run_attention(&qkv, &coefficients, fused);
    let expected = run_attention(&qkv, &coefficients, definition);
    // Logits near 1000 are exact to 6e-5, and so are the weights.
    for (found, expected) in found.into_iter().zip(expected) {
        assert_close_to("large logits", found, expected, 1e-3, 30.0);
    }
}

/// Exact resume rests on it.
#[test]
fn attention_does_not_depend_on_the_number_of_threads() {
    let run = |threads: usize, batch: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let grid = RegionGrid::pad_first(12, 9, 3);
            let number = |i: usize| ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
            let data: Vec<f32> = (0..batch * 12 * 9 * 120).map(number).collect();
            let data = TensorData::new(data, [batch, 12, 9, 120]);
            let qkv = Tensor::<4>::from_data(data, &Device::default());
            let qkv = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * 40, 40));
            let coefficients = qkv[0].clone();
            let options = RoutedAttentionOptions { num_heads: 2, scale: 0.3, mask_padding: false };
            let routed = |topk: usize| {
                let graph = some_graph(batch, &grid, topk);
                run_attention(&qkv, &coefficients, |[q, k, v]| {
                    routed_attention(q, k, v, graph.clone(), &grid, &options)
                })
            };
            [routed(1), routed(3)].concat().into_iter().map(values).collect::<Vec<_>>()
        })
    };
    for batch in [1, 2, 3, 13] {
        let one = run(1, batch);
        assert!(run(2, batch) == one && run(3, batch) == one, "batch {batch}");
    }
}

/// Means and affinities differ by roundings, and so routing may differ where two regions are as
/// good as each other; with random numbers none are.
#[test]
fn routing_chooses_the_same_regions() {
    for grid in [
        RegionGrid::pad_first(14, 14, 7),
        RegionGrid::pad_first(7, 5, 3),
        RegionGrid::pad_first(9, 10, 4),
        RegionGrid::floor(9, 11, 4),
        RegionGrid::pad_first(2, 3, 1),
    ] {
        let [height, width] = grid.padded_size();
        for channels in [4, 33, 256] {
            let [query, key, _] = slices([2, height, width], channels);
            for topk in [1, 3, 1000] {
                for (exclude_padding, mask_padding) in [(false, false), (true, false), (true, true)]
                {
                    let options = RoutingOptions { topk, exclude_padding, mask_padding };
                    let found = route(&query, &key, &grid, &options);
                    let expected = route_reference(&query, &key, &grid, &options);
                    let what = format!("{grid:?}, {channels} channels, {options:?}");
                    assert_eq!(found.dtype(), expected.dtype(), "{what}");
                    assert_eq!(found.dims(), expected.dims(), "{what}");
                    // Regions of nothing but padding are last, in any order.
                    let (found, expected) = (found.into_data(), expected.into_data());
                    if !(mask_padding && topk > 3) {
                        assert_eq!(found, expected, "{what}");
                    }
                }
            }
        }
    }
}

/// Equal affinities: the first regions.
#[test]
fn routing_prefers_the_first_of_equals() {
    let ones = Tensor::<4>::ones([1, 8, 8, 5], &Device::default());
    let grid = RegionGrid::pad_first(8, 8, 4);
    let options = RoutingOptions { topk: 3, ..RoutingOptions::default() };
    let graph = route(&ones, &ones, &grid, &options).into_data_as::<i64>();
    let graph: Vec<i64> = graph.try_into_vec().expect("integers");
    assert_eq!(graph, [0, 1, 2].repeat(16));
}
