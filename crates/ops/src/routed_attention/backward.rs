//! Backward pass, by recomputation of the weights from the saved sums of exponentials.
//!
//! One task = one head of one image. It alone adds to its channels of the gradients of K and V, query
//! region after query region, so that the result does not depend on the number of threads.
//! For a block of query tokens at a time, the weights P and their gradients lie in the second cache:
//!
//! ```text
//! P = 2^(scale · log₂ e · Q Kᵀ − log₂ sum)      dP = dO Vᵀ      dS = P ∘ (dP − rowsum(dO ∘ O))
//! dQ = scale · dS K      dK += dSᵀ (scale · Q)      dV += Pᵀ dO
//! ```

#![allow(unsafe_code, reason = "tokens are reached through the region graph")]

use super::block::Scratch;
use super::layout::{Buffer, Map, Offsets, Problem, parts};
use super::quads::{self, QUAD};
use super::tile;
use crate::parallel::{Target, for_each};
use crate::simd::{Simd, WithSimd, dispatch};

/// Numbers of a block of weights.
const BLOCK: usize = 1 << 15;

/// What the forward pass has left.
pub(crate) struct Saved<'a> {
    /// `[batch, height, width, channels]`
    pub output: Map<'a>,
    /// To the base of 2, `[batch, regions, num_heads, tokens]`
    pub log_sums: &'a [f32],
}

/// The gradients of query, key and value, each `[batch, height, width, channels]`.
pub(crate) fn gradients(problem: &Problem, saved: &Saved, grad: Map) -> [Vec<f32>; 3] {
    let Problem { batch, num_heads, head_dim, grid, .. } = *problem;
    let ([height, width], channels) = (grid.padded_size(), num_heads * head_dim);
    let len = batch * height * width * channels;
    let mut grad_query = Vec::with_capacity(len);
    let (mut grad_key, mut grad_value) = (vec![0.0; len], vec![0.0; len]);
    let strides = [height * width * channels, width * channels, channels];
    let images = Images {
        problem,
        saved,
        grad,
        query: Offsets::new(problem.query.strides, grid),
        key: Offsets::new(problem.key.strides, grid),
        value: Offsets::new(problem.value.strides, grid),
        output: Offsets::new(saved.output.strides, grid),
        grad_output: Offsets::new(grad.strides, grid),
        gradient: Offsets::new(strides, grid),
        image_len: strides[0],
        grad_query: Target::new(grad_query.as_mut_ptr()),
        grad_key: Target::new(grad_key.as_mut_ptr()),
        grad_value: Target::new(grad_value.as_mut_ptr()),
    };
    for_each(batch * num_heads, |task| {
        dispatch(Head { images: &images, n: task / num_heads, head: task % num_heads });
    });
    // SAFETY: the tokens of all regions and the channels of all heads were written.
    unsafe { grad_query.set_len(len) };
    [grad_query, grad_key, grad_value]
}

/// The images of a problem, whose tokens all lie in the same places.
pub(super) struct Images<'a> {
    pub problem: &'a Problem<'a>,
    pub saved: &'a Saved<'a>,
    pub grad: Map<'a>,
    pub query: Offsets,
    pub key: Offsets,
    pub value: Offsets,
    pub output: Offsets,
    pub grad_output: Offsets,
    /// Of the gradients of query, key and value.
    pub gradient: Offsets,
    pub image_len: usize,
    pub grad_query: Target,
    pub grad_key: Target,
    pub grad_value: Target,
}

/// One head of one image.
pub(super) struct Head<'a> {
    pub images: &'a Images<'a>,
    pub n: usize,
    pub head: usize,
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let images = self.images;
        let problem = images.problem;
        let Problem { head_dim, grid, key, value, .. } = *problem;
        let (tokens, padded_keys) = (grid.tokens(), problem.padded_keys());
        let len = quads::region_len(tokens, head_dim);
        let mut keys = Buffer::new(grid.regions() * len);
        let mut values = Buffer::new(grid.regions() * len);
        for region in 0..grid.regions() {
            let key = self.at(key, &images.key, region);
            let value = self.at(value, &images.value, region);
            // SAFETY: `Problem` holds whole maps; the buffers hold all regions.
            unsafe {
                let (keys, values) = (keys.as_mut_ptr(), values.as_mut_ptr());
                quads::pack(key, &images.key.tokens, head_dim, 1.0, keys.add(region * len));
                quads::pack(value, &images.value.tokens, head_dim, 1.0, values.add(region * len));
            }
        }
        let tile = quads::max_queries::<S>();
        let most_rows = (BLOCK / padded_keys / tile).max(1) * tile;
        let mut scratch = Scratch::new::<S>(problem, most_rows.min(tokens));
        let mut bias = Buffer::new(padded_keys);
        for region in 0..grid.regions() {
            let routed = problem.routed(self.n, region);
            let bias = problem.fill_bias(routed, bias.as_mut_slice());
            let packed =
                |start: *const f32| routed.iter().map(move |r| start.wrapping_add(r * len));
            quads::of_regions(packed(keys.as_ptr()), tokens, head_dim, &mut scratch.key_quads);
            quads::of_regions(packed(values.as_ptr()), tokens, head_dim, &mut scratch.value_quads);
            images.key.of_regions(routed, &mut scratch.key_rows);
            self.gradient_rows(routed, &mut scratch);
            // A tile must not add to the same token twice: it takes one quad at a time where a
            // region is routed to twice.
            let is_twice = |(i, region)| routed[..i].contains(region);
            let most_keys = match routed.iter().enumerate().any(is_twice) {
                true => QUAD,
                false => tile::max_rows::<S>() / QUAD * QUAD,
            };
            for rows in parts(tokens, most_rows) {
                // SAFETY: the buffers hold `most_rows`, and the channels of the head are the
                // task's to write.
                unsafe {
                    self.load_rows(simd, region, rows.clone(), &mut scratch);
                    self.weights(simd, region, rows.clone(), bias, &mut scratch);
                    self.query_gradient(simd, region, rows.clone(), &mut scratch);
                    self.key_value_gradients(simd, rows.len(), most_keys, &mut scratch);
                }
            }
        }
    }
}

impl Head<'_> {
    /// The first number of this head at the first token of a region.
    pub fn at(&self, map: Map, offsets: &Offsets, region: usize) -> *const f32 {
        let channel = self.head * self.images.problem.head_dim;
        let offset = self.n * map.strides[0] + offsets.regions[region] + channel;
        map.values.as_ptr().wrapping_add(offset)
    }

    /// Lists where the gradients of the routed keys and values go.
    fn gradient_rows(&self, routed: &[usize], scratch: &mut Scratch) {
        let images = self.images;
        let start = self.n * images.image_len + self.head * images.problem.head_dim;
        let nowhere = scratch.nowhere.as_mut_ptr();
        for (target, rows) in [
            (images.grad_key, &mut scratch.key_gradients),
            (images.grad_value, &mut scratch.value_gradients),
        ] {
            rows.clear();
            for &region in routed {
                let first = target.at(start + images.gradient.regions[region]);
                rows.extend(images.gradient.tokens.iter().map(|&token| first.wrapping_add(token)));
                rows.resize(rows.len().next_multiple_of(QUAD), nowhere);
            }
        }
    }
}
