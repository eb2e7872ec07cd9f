//! Routing of float32 maps.
//!
//! The maps are read once, for the region means. A task of the affinity is a tile of query regions,
//! whose rows stay in the first cache until the best regions are chosen.

#![allow(unsafe_code, reason = "the kernels read tokens through pointers")]

use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;

use super::RoutingOptions;
use crate::RegionGrid;
use crate::parallel::{for_each_chunk, tasks};
use crate::routed_attention::cpu::Source;
use crate::routed_attention::layout::{Buffer, Map, Offsets};
use crate::routed_attention::quads::{self, QUAD};
use crate::simd::{Simd, WithSimd, dispatch, load_some, store_some};

/// Numbers of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 15;

/// See [`route`](fn@crate::route).
pub(crate) fn route(
    query: &FlexTensor,
    key: &FlexTensor,
    grid: &RegionGrid,
    options: &RoutingOptions,
) -> FlexTensor {
    let [batch, height, width, channels] = query.layout().shape().dims();
    // The kernels do not check what they read.
    assert_eq!([height, width], grid.padded_size(), "route: size of the map");
    assert_eq!(query.layout().shape(), key.layout().shape(), "route: query and key");
    let regions = grid.regions();
    let topk = options.topk.min(regions);
    let exclude_padding = options.exclude_padding || options.mask_padding;
    let [query_means, key_means] = [query, key].map(|map| region_means(map, grid, exclude_padding)); // Q^r, K^r
    let valid = |region: usize| !options.mask_padding || tokens_in_map(grid, region) > 0;
    let valid: Vec<bool> = (0..regions).map(valid).collect();
    let mut graph = vec![0i64; batch * regions * topk];
    if topk > 0 {
        let tasks = tasks(batch * height * width * channels, TASK);
        for_each_chunk(&mut graph, regions * topk, tasks, |n, graph| {
            let [queries, keys] =
                [&query_means, &key_means].map(|means| &means[n * regions * channels..]);
            dispatch(Choose { queries, keys, channels, topk, valid: &valid, graph });
        });
    }
    FlexTensor::from_data(TensorData::new(graph, [batch, regions, topk]))
}

/// `[batch, regions, channels]`
fn region_means(map: &FlexTensor, grid: &RegionGrid, exclude_padding: bool) -> Vec<f32> {
    let [batch, height, width, channels] = map.layout().shape().dims();
    let source = Source::new(map, 0);
    let map = source.map();
    let offsets = Offsets::new(map.strides, grid);
    let regions = grid.regions();
    let mut means = vec![0.0; batch * regions * channels];
    let tasks = tasks(batch * height * width * channels, TASK);
    for_each_chunk(&mut means, channels, tasks, |index, mean| {
        let (n, region) = (index / regions, index % regions);
        dispatch(Mean { map, offsets: &offsets, grid, n, region, exclude_padding, mean });
    });
    means
}

/// Tokens of a region that are not padding.
fn tokens_in_map(grid: &RegionGrid, region: usize) -> usize {
    let (y, x) = (region / grid.cols * grid.region_height, region % grid.cols * grid.region_width);
    let height = grid.height.saturating_sub(y).min(grid.region_height);
    let width = grid.width.saturating_sub(x).min(grid.region_width);
    height * width
}

/// The mean token of a region.
struct Mean<'a> {
    map: Map<'a>,
    offsets: &'a Offsets,
    grid: &'a RegionGrid,
    n: usize,
    region: usize,
    exclude_padding: bool,
    /// `[channels]`
    mean: &'a mut [f32],
}

impl WithSimd for Mean<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { map, offsets, grid, n, region, exclude_padding, mean } = self;
        let (mut height, mut width) = (grid.region_height, grid.region_width);
        if exclude_padding {
            let (row, col) = (region / grid.cols, region % grid.cols);
            height = grid.height.saturating_sub(row * grid.region_height).min(height);
            width = grid.width.saturating_sub(col * grid.region_width).min(width);
        }
        let count = simd.splat_f32s((height * width).max(1) as f32);
        let first = n * map.strides[0] + offsets.regions[region];
        for channel in (0..mean.len()).step_by(4 * S::F32_LANES) {
            let zero = simd.splat_f32s(0.0);
            let mut sums = (zero, zero, zero, zero);
            macro_rules! for_each_sum {
                (|$sum:ident, $channel:ident| $body:expr) => {
                    for_each_sum!(@ $sum, $channel, $body, 0 1 2 3)
                };
                (@ $sum:ident, $channel:ident, $body:expr, $($v:tt)*) => {$(
                    let $channel = channel + $v * S::F32_LANES;
                    if $channel < mean.len() {
                        let $sum = &mut sums.$v;
                        $body;
                    }
                )*};
            }
            for y in 0..height {
                for x in 0..width {
                    let token = first + offsets.tokens[y * grid.region_width + x];
                    for_each_sum!(|sum, channel| {
                        // SAFETY: the token lies in the map, with all its channels.
                        let values = unsafe {
                            let token = map.values.as_ptr().add(token + channel);
                            load_some(simd, token, mean.len() - channel)
                        };
                        *sum = simd.add_f32s(*sum, values);
                    });
                }
            }
            for_each_sum!(|sum, channel| {
                let rest = &mut mean[channel..];
                // SAFETY: there are as many channels.
                unsafe {
                    store_some(simd, rest.as_mut_ptr(), simd.div_f32s(*sum, count), rest.len());
                }
            });
        }
    }
}

/// The affinity of the regions of one image, and the best ones of each row.
struct Choose<'a> {
    /// `[regions, channels]`, as are the keys.
    queries: &'a [f32],
    keys: &'a [f32],
    channels: usize,
    topk: usize,
    /// Which regions may be chosen.
    valid: &'a [bool],
    /// `[regions, topk]`
    graph: &'a mut [i64],
}

impl WithSimd for Choose<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { queries, keys, channels, topk, valid, graph } = self;
        let regions = valid.len();
        assert!(queries.len() >= regions * channels && keys.len() >= regions * channels);
        let offsets: Vec<usize> = (0..regions).map(|region| region * channels).collect();
        let mut packed = Buffer::new(quads::region_len(regions, channels));
        // SAFETY: as asserted, there are all regions.
        unsafe { quads::pack(keys.as_ptr(), &offsets, channels, 1.0, packed.as_mut_ptr()) };
        let mut key_quads = Vec::new();
        quads::of_regions(std::iter::once(packed.as_ptr()), regions, channels, &mut key_quads);
        let rows = quads::max_queries::<S>();
        let mut tile = Buffer::new(quads::region_len(rows, channels));
        let mut affinity = Buffer::new(rows * QUAD * key_quads.len());
        let mut best = Vec::with_capacity(topk + 1);
        for rows in quads::tiles::<S>(0..regions) {
            let vectors = rows.len().div_ceil(quads::queries::<S>());
            let stride = vectors * S::F32_LANES;
            // SAFETY: the buffers hold a tile.
            unsafe {
                let offsets = &offsets[rows.clone()];
                quads::pack(queries.as_ptr(), offsets, channels, 1.0, tile.as_mut_ptr());
                let (queries, target) = (tile.as_ptr(), affinity.as_mut_ptr());
                quads::multiply(simd, vectors, channels, queries, &key_quads, None, target, stride);
            }
            let affinity = affinity.as_mut_slice();
            for (i, graph) in graph[rows.start * topk..].chunks_exact_mut(topk).enumerate() {
                if i == rows.len() {
                    break;
                }
                let score = |key: usize| match valid[key] {
                    true => affinity[key / QUAD * stride + QUAD * i + key % QUAD],
                    false => f32::NEG_INFINITY,
                };
                choose((0..regions).map(score), topk, &mut best);
                for (target, &(_, region)) in graph.iter_mut().zip(&best) {
                    *target = region as i64;
                }
            }
        }
    }
}

/// The `topk` largest scores with their places, in descending order; of equal ones the first.
#[inline(always)]
fn choose(scores: impl Iterator<Item = f32>, topk: usize, best: &mut Vec<(f32, usize)>) {
    best.clear();
    for (place, score) in scores.enumerate() {
        if best.len() == topk && score.total_cmp(&best[topk - 1].0).is_le() {
            continue;
        }
        let rank = best.iter().rposition(|(other, _)| score.total_cmp(other).is_le());
        best.truncate(topk - 1);
        best.insert(rank.map_or(0, |rank| rank + 1), (score, place));
    }
}
