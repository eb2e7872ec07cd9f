//! Routed and global attention, with and without LCE.

use biformer_ops::{
    RegionGrid, RoutedAttentionOptions, depthwise_conv_reference, global_attention,
    global_attention_traced, routed_attention, routed_attention_lce, routed_attention_traced,
    split_qkv,
};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::numbers::values;
use crate::{SUMS, assert_close, assert_close_to, random};

/// The weights differ by the exponential, accurate to 3e-6 of each; sums over at most 576 keys add
/// 576 roundings of 6e-8 at worst.
const ATTENTION: f64 = 2e-5;

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
pub fn slices([batch, height, width]: [usize; 3], channels: usize) -> [Tensor<4>; 3] {
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
