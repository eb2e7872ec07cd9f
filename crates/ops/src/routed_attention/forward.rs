//! Forward pass: O = softmax(scale · Q Kᵍᵀ) Vᵍ.
//!
//! One task = some query regions of one image, with all heads. For a few query tokens at a time
//! the logits of all keys lie in the first cache, so that no online softmax is needed.
//! Kᵀ is packed once per region and head; Vᵍ is read where it is, through the region graph.
//! Neither the weights nor Vᵍ are ever written to memory.

#![allow(unsafe_code, reason = "tokens are reached through the region graph")]

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::layout::{Buffer, Offsets, Problem};
use super::quads::{self, QUAD};
use super::{softmax, tile};
use crate::parallel::{Target, for_each, part};
use crate::simd::{Simd, WithSimd, dispatch, store, store_some};

/// Multiply-adds of a task below which a thread costs more than it brings.
const TASK: usize = 1 << 17;

/// The output, `[batch, height, width, channels]`, and if wanted the binary logarithms of the sums
/// of exponentials, `[batch, regions, num_heads, tokens]`.
pub(crate) fn attend(problem: &Problem, log_sums: bool) -> (Vec<f32>, Vec<f32>) {
    let Problem { batch, num_heads, head_dim, grid, topk, .. } = *problem;
    let (regions, tokens) = (grid.regions(), grid.tokens());
    let ([height, width], channels) = (grid.padded_size(), num_heads * head_dim);
    let mut output: Vec<f32> = Vec::with_capacity(batch * height * width * channels);
    let mut sums: Vec<f32> = Vec::with_capacity(batch * regions * num_heads * tokens);
    let image = Image {
        problem,
        query: Offsets::new(problem.query.strides, grid),
        key: Offsets::new(problem.key.strides, grid),
        value: Offsets::new(problem.value.strides, grid),
        output: Offsets::new([height * width * channels, width * channels, channels], grid),
        target: Target::new(output.as_mut_ptr()),
        log_sums: log_sums.then_some(Target::new(sums.as_mut_ptr())),
    };
    let threads = rayon::current_num_threads();
    let work = regions * tokens * problem.padded_keys() * channels;
    // Regions that have to be packed before they are attended to.
    let packed_len =
        if topk == 1 { 0 } else { regions * num_heads * quads::region_len(tokens, head_dim) };
    if batch.is_multiple_of(threads) || batch >= 4 * threads {
        // Whole images, one after the other in the same buffer.
        let groups = if threads == 1 { 1 } else { batch.min(4 * threads) };
        for_each(groups, |group| {
            let mut packed = Buffer::new(packed_len);
            for n in part(batch, groups, group) {
                image.pack(n, 0..regions, Target::new(packed.as_mut_ptr()));
                image.attend(n, 0..regions, packed.as_ptr());
            }
        });
    } else {
        // Chunks of the regions of an image, which must all be packed before any is attended to.
        let chunks = (work / TASK).clamp(1, 8 * threads).min(regions);
        let mut packed = Buffer::new(packed_len);
        let packed = Target::new(packed.as_mut_ptr());
        for n in 0..batch {
            for_each(chunks, |i| image.pack(n, part(regions, chunks, i), packed));
            for_each(chunks, |i| image.attend(n, part(regions, chunks, i), packed.at(0)));
        }
    }
    // SAFETY: the regions cover the map, and their tokens the rows of sums.
    unsafe {
        output.set_len(batch * height * width * channels);
        if log_sums {
            sums.set_len(batch * regions * num_heads * tokens);
        }
    }
    (output, sums)
}

/// The images of a problem, whose tokens all lie in the same places.
struct Image<'a> {
    problem: &'a Problem<'a>,
    query: Offsets,
    key: Offsets,
    value: Offsets,
    output: Offsets,
    target: Target,
    log_sums: Option<Target>,
}

impl Image<'_> {
    fn pack(&self, n: usize, regions: Range<usize>, packed: Target) {
        if self.problem.topk > 1 {
            dispatch(Pack { image: self, n, regions, packed: packed.at(0) });
        }
    }

    fn attend(&self, n: usize, regions: Range<usize>, packed: *const f32) {
        dispatch(Attend { image: self, n, regions, packed });
    }
}

/// Transposes the keys of some regions.
struct Pack<'a> {
    image: &'a Image<'a>,
    n: usize,
    regions: Range<usize>,
    /// `[regions, num_heads, tokens / 4, head_dim, 4]`
    packed: *mut f32,
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { image, n, regions, packed } = self;
        let Problem { num_heads, head_dim, grid, key, .. } = *image.problem;
        let len = quads::region_len(grid.tokens(), head_dim);
        for region in regions.clone() {
            if region + 1 < regions.end {
                image.key.prefetch(&key, n, region + 1, num_heads * head_dim);
            }
            for head in 0..num_heads {
                let start = n * key.strides[0] + image.key.regions[region] + head * head_dim;
                // SAFETY: `Problem` holds the whole map, `packed` all regions; this one is the task's.
                unsafe {
                    let source = key.values.as_ptr().add(start);
                    let target = packed.add((region * num_heads + head) * len);
                    quads::pack(source, &image.key.tokens, head_dim, 1.0, target);
                }
            }
        }
    }
}

/// Computes the output of some query regions.
struct Attend<'a> {
    image: &'a Image<'a>,
    n: usize,
    regions: Range<usize>,
    packed: *const f32,
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let problem = self.image.problem;
        let Problem { num_heads, head_dim, grid, topk, key, .. } = *problem;
        let tokens = grid.tokens();
        let len = quads::region_len(tokens, head_dim);
        let mut scratch = Scratch::new::<S>(problem);
        // One routed region needs no packed image: its query region packs it.
        let mut own_keys = Buffer::new(if topk == 1 { len } else { 0 });
        let mut bias = Buffer::new(problem.padded_keys());
        for region in self.regions.clone() {
            let routed = problem.routed(self.n, region);
            let bias = problem.fill_bias(routed, bias.as_mut_slice());
            self.image.value.of_regions(routed, &mut scratch.value_rows);
            if region + 1 < self.regions.end {
                self.prefetch(region + 1);
            }
            for head in 0..num_heads {
                let packed = |&r: &usize| self.packed.wrapping_add((r * num_heads + head) * len);
                if topk == 1 {
                    let first = self.n * key.strides[0] + self.image.key.regions[routed[0]];
                    let source = key.values.as_ptr().wrapping_add(first + head * head_dim);
                    let target = own_keys.as_mut_ptr();
                    // SAFETY: `Problem` holds whole maps.
                    unsafe { quads::pack(source, &self.image.key.tokens, head_dim, 1.0, target) };
                    let packed = std::iter::once(own_keys.as_ptr());
                    quads::of_regions(packed, tokens, head_dim, &mut scratch.key_quads);
                } else {
                    let packed = routed.iter().map(packed);
                    quads::of_regions(packed, tokens, head_dim, &mut scratch.key_quads);
                }
                for rows in quads::tiles::<S>(0..tokens) {
                    // SAFETY: the keys are packed, the values routed; the tokens of the region
                    // are the task's to write.
                    unsafe { self.tile(simd, region, head, rows, bias, &mut scratch) };
                }
            }
        }
    }
}

/// What a task writes beside the output, for one tile of queries.
struct Scratch {
    key_quads: Vec<*const f32>,
    value_rows: Vec<usize>,
    queries: Buffer,
    /// First the logits, then the weights, up to `factors`.
    weights: Buffer,
    /// 1 / sum of the weights, four times for each query.
    factors: Buffer,
}

impl Scratch {
    fn new<S: Simd>(problem: &Problem) -> Self {
        let rows = quads::max_queries::<S>();
        Self {
            key_quads: Vec::with_capacity(problem.padded_keys() / QUAD),
            value_rows: Vec::with_capacity(problem.padded_keys()),
            queries: Buffer::new(quads::region_len(rows, problem.head_dim)),
            weights: Buffer::new(rows * problem.padded_keys()),
            factors: Buffer::new(rows * QUAD),
        }
    }
}

impl Attend<'_> {
    /// Asks for what a region is the first to read.
    #[inline(always)]
    fn prefetch(&self, region: usize) {
        let (image, n) = (self.image, self.n);
        let Problem { num_heads, head_dim, topk, query, key, value, .. } = image.problem;
        let channels = num_heads * head_dim;
        image.query.prefetch(query, n, region, channels);
        if *topk == 1 {
            let routed = image.problem.routed(n, region)[0];
            image.key.prefetch(key, n, routed, channels);
            image.value.prefetch(value, n, routed, channels);
        } else {
            image.value.prefetch(value, n, region, channels);
        }
    }

    /// Computes the output of the tokens `rows` of a region.
    #[inline(always)]
    unsafe fn tile<S: Simd>(
        &self,
        simd: S,
        region: usize,
        head: usize,
        rows: Range<usize>,
        bias: Option<*const f32>,
        scratch: &mut Scratch,
    ) {
        let Problem { num_heads, head_dim, grid, query, value, scale, .. } = *self.image.problem;
        let Scratch { key_quads, value_rows, queries, weights, factors } = scratch;
        let (image, n, channel) = (self.image, self.n, head * head_dim);
        let vectors = rows.len().div_ceil(quads::queries::<S>());
        let stride = vectors * S::F32_LANES;
        // SAFETY: the caller's, and as `Scratch` is made.
        unsafe {
            let first = n * query.strides[0] + image.query.regions[region] + channel;
            let source = query.values.as_ptr().add(first);
            let offsets = &image.query.tokens[rows.clone()];
            quads::pack(source, offsets, head_dim, scale * LOG2_E, queries.as_mut_ptr());
            let (queries, logits) = (queries.as_ptr(), weights.as_mut_ptr());
            let quads = key_quads.len();
            let maxima =
                quads::multiply(simd, vectors, head_dim, queries, key_quads, bias, logits, stride);
            for (at, max) in (0..stride).step_by(S::F32_LANES).zip(maxima) {
                let (sum, max) = softmax::exponentials(simd, logits.add(at), quads, stride, max);
                let factor = simd.div_f32s(simd.splat_f32s(1.0), sum);
                store(simd, factors.as_mut_ptr().add(at), factor);
                if let Some(log_sums) = image.log_sums {
                    let first = ((n * grid.regions() + region) * num_heads + head) * grid.tokens();
                    let start = rows.start + at / QUAD;
                    let target = log_sums.at(first + start);
                    softmax::write_log_sums(simd, sum, max, target, rows.end - start);
                }
            }
            let (weights, factors) = (weights.as_ptr(), factors.as_ptr());
            let value_row = |key: usize| *value_rows.as_ptr().add(key);
            let values = value.values.as_ptr().add(n * value.strides[0] + channel);
            let tokens = grid.regions() * grid.tokens();
            let first = n * tokens * num_heads * head_dim + image.output.regions[region] + channel;
            let output = image.target.at(first);
            let offsets = &image.output.tokens[rows.clone()];
            for d in (0..head_dim).step_by(tile::width::<S>()) {
                tile::multiply(
                    simd,
                    rows.len(),
                    key_quads.len() * QUAD,
                    |i, key| weights.wrapping_add(key / QUAD * stride + QUAD * i + key % QUAD),
                    |key| values.wrapping_add(value_row(key) + d),
                    |_, _| simd.splat_f32s(0.0),
                    |i, v, sum| {
                        let d = d + v * S::F32_LANES;
                        if d < head_dim {
                            let sum = simd.mul_f32s(sum, simd.splat_f32s(*factors.add(QUAD * i)));
                            store_some(simd, output.add(offsets[i] + d), sum, head_dim - d);
                        }
                    },
                );
            }
        }
    }
}
