//! Sizes, masks and choices at the edge, against attention written out in loops.

mod numbers;

use biformer_ops::{
    RegionGrid, RoutedAttentionOptions, RoutingOptions, affinity, check_fused_attention,
    depthwise_conv, global_attention, region_means, route, routed_attention,
    routed_attention_traced, routed_attention_weights, topk_regions,
};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use numbers::{assert_close, numbers, values};

const CHANNELS: usize = 8;
const HEADS: usize = 2;
/// Not `CHANNELS^-0.5`: larger logits make the softmax uneven, so that a wrong key shows.
const SCALE: f64 = 1.5;

/// An output is a mean of values below 1 in magnitude. Its error is that of the logits, at most 8
/// products summed (8 · 2⁻²⁴ · 6), carried through exp, and that of a sum over at most 100 keys:
/// about 5e-6 at worst, and a wrong key moves the output by 1e-2.
const TOLERANCE: f32 = 1e-5;

/// Maps and grids, most of which do not divide; the last two have fewer tokens than regions.
fn grids() -> Vec<RegionGrid> {
    let sizes =
        [(6, 6, 3), (7, 5, 3), (9, 4, 4), (5, 11, 2), (4, 4, 3), (3, 3, 1), (2, 3, 4), (1, 1, 7)];
    let pad_first = sizes.map(|(height, width, n_win)| RegionGrid::pad_first(height, width, n_win));
    let floor = sizes.map(|(height, width, n_win)| RegionGrid::floor(height, width, n_win));
    [pad_first, floor].concat()
}

fn options(mask_padding: bool) -> RoutedAttentionOptions {
    RoutedAttentionOptions { num_heads: HEADS, scale: SCALE, mask_padding }
}

/// Query, key and value of the size of the map.
fn maps(grid: &RegionGrid, device: &Device) -> [Tensor<4>; 3] {
    [1, 2, 3].map(|seed| numbers([2, grid.height, grid.width, CHANNELS], seed, device))
}

#[test]
fn every_size_agrees_with_loops() {
    let device = Device::default();
    for grid in grids() {
        for topk in [1, 2, grid.regions()] {
            for mask_padding in [false, true] {
                let maps = maps(&grid, &device);
                let [q, k, v] = maps.clone().map(|x| grid.pad(x));
                let routing = RoutingOptions { topk, exclude_padding: false, mask_padding };
                let graph = route(&q, &k, &grid, &routing);
                assert_eq!(graph.dims(), [2, grid.regions(), topk.min(grid.regions())]);
                let options = options(mask_padding);
                let output = routed_attention(q, k, v, graph.clone(), &grid, &options);
                let found = values(grid.crop(output));
                let expected = loops::attention(maps, graph, &grid, mask_padding);
                let what = format!("{grid:?}, topk {topk}, mask {mask_padding}");
                assert_close(&what, &found, &expected, TOLERANCE);
            }
        }
    }
}

/// With all regions routed and padding left out, every token attends to every token of the map.
#[test]
fn all_regions_are_global_attention() {
    let device = Device::default();
    for grid in grids() {
        let [q, k, v] = maps(&grid, &device);
        let expected = global_attention(q.clone(), k.clone(), v.clone(), HEADS, SCALE);
        let [q, k, v] = [q, k, v].map(|x| grid.pad(x));
        // More than all is all.
        let routing = RoutingOptions { topk: 1000, exclude_padding: true, mask_padding: true };
        let graph = route(&q, &k, &grid, &routing);
        let found = grid.crop(routed_attention(q, k, v, graph, &grid, &options(true)));
        assert_close(&format!("{grid:?}"), &values(found), &values(expected), TOLERANCE);
    }
}

/// Of both pictures, with and without padding.
#[test]
fn weights_of_some_regions_are_among_those_of_all() {
    let device = Device::default();
    for grid in grids() {
        let [q, k, v] = maps(&grid, &device).map(|x| grid.pad(x));
        let topk = 2.min(grid.regions());
        let graph = route(&q, &k, &grid, &RoutingOptions { topk, ..Default::default() });
        let (first, regions) = (grid.regions() / 2, grid.regions());
        for mask_padding in [false, true] {
            let options = options(mask_padding);
            let some = first..regions;
            let found = routed_attention_weights(
                q.clone(),
                k.clone(),
                graph.clone(),
                &grid,
                &options,
                some.clone(),
            );
            let [q, k, v] = [&q, &k, &v].map(Tensor::clone);
            let all = routed_attention_traced(q, k, v, graph.clone(), &grid, &options).weights;
            let [_, heads, tokens, keys] = all.dims();
            let all = all.reshape([2, regions, heads * tokens, keys]);
            let expected = all.narrow(1, first, some.len());
            assert_eq!(found.dims(), [2 * some.len(), heads, tokens, keys], "{grid:?}");
            assert_eq!(values(found), values(expected), "{grid:?}");
        }
    }
}

#[test]
fn padding_gets_no_weight() {
    let device = Device::default();
    for grid in grids().into_iter().filter(RegionGrid::is_padded) {
        let [q, k, v] = maps(&grid, &device).map(|x| grid.pad(x));
        let topk = 2.min(grid.regions());
        let routing = RoutingOptions { topk, exclude_padding: true, mask_padding: true };
        let graph = route(&q, &k, &grid, &routing);
        let attention = routed_attention_traced(q, k, v, graph.clone(), &grid, &options(true));
        let tokens = grid.tokens();
        assert_eq!(
            attention.weights.dims(),
            [2 * grid.regions(), HEADS, tokens, topk * tokens],
            "{grid:?}"
        );
        let is_padding = grid.padding_mask(&device).into_data().try_into_vec::<bool>();
        let is_padding = is_padding.expect("booleans");
        let graph: Vec<usize> = loops::indices(graph);
        let weights = values(attention.weights);
        for (query, row) in weights.chunks(topk * tokens).enumerate() {
            let routed = &graph[query / (HEADS * tokens) * topk..][..topk];
            for (key, weight) in row.iter().enumerate() {
                if is_padding[routed[key / tokens] * tokens + key % tokens] {
                    assert_eq!(*weight, 0.0, "{grid:?}: weight of a padded key");
                }
            }
            // As many roundings of 2⁻²⁴ as there are keys, at most 60.
            let sum: f32 = row.iter().sum();
            assert!((sum - 1.0).abs() < 4e-6, "{grid:?}: weights sum to {sum}");
        }
    }
}

/// Regions of nothing but padding are the last that routing chooses, whatever their content.
#[test]
fn empty_regions_are_never_chosen() {
    let device = Device::default();
    let grid = RegionGrid::pad_first(4, 4, 3); // 2 × 2 of the 3 × 3 regions hold tokens
    let size = [1, 6, 6, CHANNELS];
    let (q, k) = (Tensor::ones(size, &device) * -1.0, Tensor::ones(size, &device) * 3.0);
    let routing = RoutingOptions { topk: 4, exclude_padding: true, mask_padding: true };
    let mut chosen = loops::indices(route(&q, &k, &grid, &routing));
    chosen.sort();
    chosen.dedup();
    assert_eq!(chosen, [0, 1, 3, 4]);
}

#[test]
fn topk_is_in_descending_order() {
    let device = Device::default();
    let scores: [f32; 8] = [0.5, -1.0, 3.0, 2.0, -4.0, -3.0, -1.0, -2.0];
    let scores = Tensor::<3>::from_data(TensorData::new(scores.to_vec(), [1, 2, 4]), &device);
    let best = |topk| loops::indices(topk_regions(scores.clone(), topk));
    assert_eq!(best(1), [2, 2]);
    assert_eq!(best(3), [2, 3, 0, 2, 3, 1]);
    assert_eq!(best(4), [2, 3, 0, 1, 2, 3, 1, 0]);
    assert_eq!(best(9), best(4));
}

/// The supplement's identity: the mean affinity of the tokens of two regions is the affinity of
/// their means.
#[test]
fn affinity_of_means_is_mean_affinity() {
    let device = Device::default();
    let grid = RegionGrid::pad_first(6, 8, 2);
    let [q, k, _] = maps(&grid, &device);
    let found =
        affinity(region_means(q.clone(), &grid, false), region_means(k.clone(), &grid, false));
    let tokens = |x| grid.partition(x); // [2, regions, tokens, CHANNELS]
    let (q, k) = (tokens(q).unsqueeze_dim::<5>(2), tokens(k).unsqueeze_dim::<5>(1));
    let of_tokens = q.matmul(k.swap_dims(3, 4)); // [2, regions, regions, tokens, tokens]
    let expected = of_tokens.mean_dim(4).mean_dim(3);
    // Sums of 8 products below 1, then means of them: 8 · 2⁻²⁴ and little more.
    assert_close("affinity", &values(found), &values(expected), 1e-6);
}

#[test]
fn means_can_leave_padding_out() {
    let device = Device::default();
    let grid = RegionGrid::pad_first(3, 3, 2); // regions of 2 × 2 with 4, 2, 2 and 1 tokens
    let ones = grid.pad(Tensor::ones([1, 3, 3, 1], &device));
    assert_eq!(values(region_means(ones.clone(), &grid, false)), [1.0, 0.5, 0.5, 0.25]);
    assert_eq!(values(region_means(ones, &grid, true)), [1.0; 4]);
}

#[test]
fn partition_and_merge_are_inverse() {
    let device = Device::default();
    for grid in grids() {
        let [map, _, _] = maps(&grid, &device);
        let padded = grid.pad(map.clone());
        let regions = grid.partition(padded.clone());
        assert_eq!(regions.dims(), [2, grid.regions(), grid.tokens(), CHANNELS]);
        let merged = grid.merge(regions);
        assert_eq!(values(merged.clone()), values(padded), "{grid:?}");
        assert_eq!(values(grid.crop(merged)), values(map), "{grid:?}");
    }
}

#[test]
fn regions_are_row_major() {
    let device = Device::default();
    let grid = RegionGrid::pad_first(2, 4, 2); // regions of 1 × 2
    let map = Tensor::<1, Int>::arange(0..8, &device).float().reshape([1, 2, 4, 1]);
    let regions = grid.partition(map);
    assert_eq!(regions.dims(), [1, 4, 2, 1]);
    assert_eq!(values(regions), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

/// A map of one token sees only the middle of the kernel.
#[test]
fn depthwise_conv_of_one_token() {
    let device = Device::default();
    let x = numbers([2, 1, 1, CHANNELS], 1, &device);
    let weight = numbers([CHANNELS, 1, 5, 5], 2, &device);
    let middle = weight.clone().slice([0..CHANNELS, 0..1, 2..3, 2..3]).reshape([1, 1, 1, CHANNELS]);
    let bias = numbers([CHANNELS], 3, &device);
    let expected = x.clone() * middle + bias.clone().reshape([1, 1, 1, CHANNELS]);
    let found = depthwise_conv(x, weight, bias);
    // One product and one sum of numbers below 1; zeros around add nothing.
    assert_close("one token", &values(found), &values(expected), 3e-7);
}

/// The definition answers for maps that no kernel takes, and a caller can learn why.
#[test]
fn attention_says_why_it_is_not_fused() {
    let device = Device::flex();
    let grid = RegionGrid::pad_first(6, 6, 3);
    let [query, key, value] = maps(&grid, &device);
    assert_eq!(check_fused_attention([&query, &key, &value], 2), Ok(()));
    let query = query.cast(DType::F64);
    let reason = check_fused_attention([&query, &key, &value], 2).expect_err("no kernel");
    assert_eq!(reason, "maps of [F64, F32, F32], where kernels of the CPU take F32");
}

#[test]
#[should_panic(expected = "channels must be divisible by num_heads, got 8 channels and 3 heads")]
fn routed_attention_refuses_heads_that_do_not_divide() {
    let device = Device::default();
    let grid = RegionGrid::pad_first(4, 4, 2);
    let [q, k, v] = maps(&grid, &device);
    let graph = route(&q, &k, &grid, &RoutingOptions::default());
    let options = RoutedAttentionOptions { num_heads: 3, ..options(false) };
    routed_attention(q, k, v, graph, &grid, &options);
}

#[test]
#[should_panic(expected = "channels must be divisible by num_heads, got 8 channels and 0 heads")]
fn global_attention_refuses_no_heads() {
    let device = Device::default();
    let [q, k, v] = maps(&RegionGrid::pad_first(4, 4, 2), &device);
    global_attention(q, k, v, 0, SCALE);
}

#[test]
#[should_panic(expected = "got a map of 4 × 0 tokens and n_win 7")]
fn a_grid_needs_tokens() {
    RegionGrid::pad_first(4, 0, 7);
}

/// The definition with no tensor operation: for each query, its keys one by one, in f64.
mod loops {
    use super::*;

    pub fn attention(
        [query, key, value]: [Tensor<4>; 3],
        graph: Tensor<3, Int>,
        grid: &RegionGrid,
        mask_padding: bool,
    ) -> Vec<f32> {
        let [batch, regions, topk] = graph.dims();
        let graph = indices(graph);
        let (query, key, value) = (values(query), values(key), values(value));
        let mut output = vec![0.0; query.len()];
        for b in 0..batch {
            let start = |y: usize, x: usize| ((b * grid.height + y) * grid.width + x) * CHANNELS;
            for (y, x) in (0..grid.height).flat_map(|y| (0..grid.width).map(move |x| (y, x))) {
                let region = y / grid.region_height * grid.cols + x / grid.region_width;
                let routed = &graph[(b * regions + region) * topk..][..topk];
                let keys = routed.iter().flat_map(|&region| tokens_of(region, grid));
                // `None` for padding, whose key and value are zeros.
                let keys: Vec<Option<usize>> = keys
                    .map(|(y, x)| (y < grid.height && x < grid.width).then(|| start(y, x)))
                    .filter(|key| key.is_some() || !mask_padding)
                    .collect();
                let head_dim = CHANNELS / HEADS;
                for head in (0..CHANNELS).step_by(head_dim) {
                    let query = &query[start(y, x) + head..][..head_dim];
                    let weights: Vec<f64> = keys
                        .iter()
                        .map(|at| at.map_or(0.0, |at| dot(query, &key[at + head..])))
                        .map(|product| (SCALE * product).exp())
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    for channel in head..head + head_dim {
                        let of_key = |at: &Option<usize>| at.map_or(0.0, |at| value[at + channel]);
                        let terms = keys.iter().zip(&weights);
                        let mean: f64 = terms.map(|(at, w)| w / sum * f64::from(of_key(at))).sum();
                        output[start(y, x) + channel] = mean as f32;
                    }
                }
            }
        }
        output
    }

    /// Rows and columns of the tokens of a region, in the padded map.
    fn tokens_of(region: usize, grid: &RegionGrid) -> impl Iterator<Item = (usize, usize)> {
        let RegionGrid { cols, region_height, region_width, .. } = *grid;
        let (top, left) = (region / cols * region_height, region % cols * region_width);
        (0..region_height * region_width)
            .map(move |i| (top + i / region_width, left + i % region_width))
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    pub fn indices<const D: usize>(x: Tensor<D, Int>) -> Vec<usize> {
        let indices: Vec<i64> = x.into_data_as::<i64>().try_into_vec().expect("integers");
        indices.into_iter().map(|index| index as usize).collect()
    }
}
