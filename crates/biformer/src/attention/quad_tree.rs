//! Quad-tree attention, B (Tang et al., ICLR 2022, <https://arxiv.org/abs/2201.02767>).
//!
//! Q, K and V are made coarser level by level, each time by 2 × 2 tokens: Q and K by means, V by a small
//! network. At the coarsest level all cells attend to all. Then each cell hands the K keys that it weighs
//! most down to its four tokens, which attend to the 4K children of those alone, and so on to the finest
//! level (§3.1). Each level gives a message of its own, and they are summed with learned weights (Eq. 5, B):
//!
//! m^l = softmax(Q^l K^lᵀ / √d) V^l over the candidates of level l; y = Σ_l w_l (m^l + DWConv(V^l)), w = softmax
//!
//! the coarse messages copied to all tokens below. As in the official models for classification: K = 8, and
//! 4, 3, 2, 1 levels in the four stages, so that the coarsest map is 7 × 7 on pictures of 224².

use biformer_ops::{Precision, gelu, split_qkv, topk_regions};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax, ops::PadMode};

use super::biased_attention::MASKED;
use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::cells::{Cells, children, half_as_fine, twice_as_fine};
use crate::layers::{DepthwiseConv, Linear, convolve};

/// Configuration of [`QuadTreeAttention`].
#[derive(Config, Debug)]
pub struct QuadTreeConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Levels, the map itself included.
    pub levels: usize,
    /// Keys that are handed down, the paper's K.
    #[config(default = 8)]
    pub topk: usize,
}

/// Attention from coarse to fine, to what weighed most one level above.
///
/// Zeros fill up a map that is no multiple of a coarsest cell. They count in means and convolutions, as any
/// token; cells that hold nothing else are attended to by nobody.
#[derive(Module, Debug)]
pub struct QuadTreeAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// From V of a level to V of the next coarser one.
    pub value_branches: Vec<ValueBranch>,
    /// Position encoding of V of each level, finest first.
    pub lepe: Vec<DepthwiseConv>,
    /// w before the softmax, finest first: `[levels]`
    pub level_weights: Param<Tensor<1>>,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: QuadTreeConfig,
}

/// Norm, GELU, convolution of cells of 2 × 2 tokens, norm, GELU, linear layer.
#[derive(Module, Debug)]
pub struct ValueBranch {
    /// Over all numbers of a picture.
    pub norm_fine: GroupNorm,
    /// From four tokens to one.
    pub halve: Conv2d,
    /// Over all numbers of a picture.
    pub norm_coarse: GroupNorm,
    /// Channels to channels.
    pub mix: Linear,
}

impl QuadTreeConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> QuadTreeAttention {
        let Self { dim, num_heads, levels, .. } = *self;
        head_dim(dim, num_heads);
        let branch = |_| ValueBranch {
            norm_fine: GroupNormConfig::new(1, dim).init(device),
            halve: Conv2dConfig::new([dim, dim], [2, 2]).with_stride([2, 2]).init(device),
            norm_coarse: GroupNormConfig::new(1, dim).init(device),
            mix: Linear::new(dim, dim, true, device),
        };
        QuadTreeAttention {
            qkv: Linear::new(dim, 3 * dim, true, device),
            value_branches: (1..levels).map(branch).collect(),
            lepe: (0..levels).map(|_| DepthwiseConv::new(dim, 3, device)).collect(),
            level_weights: Initializer::Normal { mean: 0.0, std: 1.0 }.init([levels], device),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }

    /// Tokens along a side of a cell of the coarsest level.
    fn cell(&self) -> usize {
        1 << (self.levels - 1)
    }
}

impl BlockAttention for QuadTreeAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let levels = 4usize.saturating_sub(place.stage).max(1);
        QuadTreeConfig::new(place.dim, place.num_heads, levels).init(device)
    }

    fn num_heads(&self) -> usize {
        self.config.num_heads
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let [below, right] =
            [height, width].map(|side| side.next_multiple_of(self.config.cell()) - side);
        let qkv = self.qkv.forward(x);
        let qkv = match [below, right] {
            [0, 0] => qkv,
            _ => qkv.pad([(0, 0), (0, below), (0, right), (0, 0)], PadMode::Constant(0.0)),
        };
        let levels = self.pyramid(split_qkv(qkv));
        let weights = softmax(self.level_weights.val(), 0); // w

        let mut candidates = None;
        let mut output: Option<Tensor<4>> = None;
        for (level, qkv) in levels.into_iter().enumerate().rev() {
            let [.., value] = qkv.clone();
            let size = [height, width].map(|side| side.div_ceil(1 << level));
            let attended = self.attend(qkv, candidates.take(), size);
            let found = attended.message.clone();
            if level > 0 {
                candidates = Some(attended.hand_down(self.config.topk));
            }
            let weight = weights.clone().narrow(0, level, 1).reshape([1, 1, 1, 1]);
            let message = self.lepe[level].forward_add(value, found) * weight;
            output = Some(match output {
                Some(coarse) => message + twice_as_fine(coarse),
                None => message,
            });
        }
        let output = output.expect("at least one level");
        self.output.forward(output.narrow(1, 0, height).narrow(2, 0, width))
    }

    fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        let prepared = |branch: ValueBranch| {
            let mix = branch.mix.for_inference(precision);
            ValueBranch { mix, ..branch }
        };
        let value_branches = self.value_branches.into_iter().map(prepared).collect();
        Self { qkv, output, value_branches, ..self }
    }

    fn parts(&self, size: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let (dim, topk) = (self.config.dim, self.config.topk);
        let padded = size.map(|side| side.next_multiple_of(self.config.cell()));
        let tokens_of = |level: usize| (padded[0] >> level) * (padded[1] >> level);
        let tokens = size[0] * size[1];
        let mut parts = vec![("qkv", Part::Linear(&self.qkv, tokens))];
        for (level, branch) in self.value_branches.iter().enumerate() {
            let (fine, coarse) = (tokens_of(level), tokens_of(level + 1));
            parts.push(("value_branches.norm_fine", Part::GroupNorm(&branch.norm_fine, fine)));
            parts.push(("value_branches.halve", Part::Conv(&branch.halve, [fine, coarse])));
            parts
                .push(("value_branches.norm_coarse", Part::GroupNorm(&branch.norm_coarse, coarse)));
            parts.push(("value_branches.mix", Part::Linear(&branch.mix, coarse)));
        }
        let mut candidates = tokens_of(self.config.levels - 1);
        for (level, lepe) in self.lepe.iter().enumerate().rev() {
            let tokens = tokens_of(level);
            let pairs = tokens * candidates;
            parts.push(("attention", Part::Attention { pairs, tokens, dim }));
            parts.push(("lepe", Part::DepthwiseConv(lepe, tokens)));
            candidates = 4 * topk.min(candidates);
        }
        parts.push(("level_weights", Part::Parameters(self.config.levels)));
        parts.push(("output", Part::Linear(&self.output, tokens)));
        parts
    }
}

impl QuadTreeAttention {
    /// Q, K and V of each level, finest first.
    ///
    /// # Shapes
    /// - qkv: `[batch, height, width, dim]`, multiples of a coarsest cell
    /// - outputs: `[batch, height / 2^level, width / 2^level, dim]`
    fn pyramid(&self, qkv: [Tensor<4>; 3]) -> Vec<[Tensor<4>; 3]> {
        let mut levels = vec![qkv];
        for branch in &self.value_branches {
            let [query, key, value] = levels[levels.len() - 1].clone();
            levels.push([half_as_fine(query), half_as_fine(key), branch.forward(value)]);
        }
        levels
    }

    /// The message of one level.
    ///
    /// # Shapes
    /// - query, key, value: `[batch, height, width, dim]`
    /// - candidates: keys for the four tokens of each coarser cell,
    ///   `[batch * num_heads, height / 2 * width / 2, candidates]`; without them all keys for all
    /// - size: rows and columns that hold tokens of the picture
    fn attend(
        &self,
        qkv: [Tensor<4>; 3],
        candidates: Option<Tensor<3, Int>>,
        size: [usize; 2],
    ) -> Level {
        let [batch, height, width, dim] = qkv[0].dims();
        let num_heads = self.config.num_heads;
        let (maps, head_dim, tokens) = (batch * num_heads, dim / num_heads, height * width);
        let device = qkv[0].device();
        let heads = |x: Tensor<4>| {
            let x = x.reshape([batch, tokens, num_heads, head_dim]).swap_dims(1, 2);
            x.reshape([maps, tokens, head_dim])
        };
        let [query, key, value] = qkv.map(heads);
        // Queries that have the same keys: the four tokens of a cell, or all.
        let rows_and_cols = candidates.as_ref().map_or([1, 1], |_| [height / 2, width / 2]);
        let cells = Cells { rows_and_cols, size: [height, width] };
        let candidates = candidates.unwrap_or_else(|| {
            let all = Tensor::<1, Int>::arange(0..tokens as i64, &device);
            all.reshape([1, 1, tokens]).repeat_dim(0, maps)
        });
        let [_, groups, keys] = candidates.dims();
        // Rows of the candidates when the tokens of all maps stand one below the other.
        let first_row = Tensor::<1, Int>::arange(0..maps as i64, &device) * tokens as i64;
        let rows = candidates.clone() + first_row.reshape([maps, 1, 1]);
        let rows = rows.reshape([maps * groups * keys]);
        let gather = |x: Tensor<3>| {
            let x = x.reshape([maps * tokens, head_dim]).select(0, rows.clone());
            x.reshape([maps, groups, keys, head_dim])
        };
        let query = cells.split(query * (head_dim as f64).powf(-0.5));
        let mut logits = query.matmul(gather(key).swap_dims(2, 3));
        if size != [height, width] {
            let bias = padding_bias([height, width], size, &device);
            let bias = bias.select(0, candidates.clone().reshape([maps * groups * keys]));
            logits = logits + bias.reshape([maps, groups, 1, keys]);
        }
        let weights = softmax(logits, 3);
        let message = cells.merge(weights.clone().matmul(gather(value))); // [maps, tokens, head_dim]
        let message = message.reshape([batch, num_heads, tokens, head_dim]).swap_dims(1, 2);
        let message = message.reshape([batch, height, width, dim]);
        Level { message, weights: weights.detach(), candidates, cells }
    }
}

/// What one level found.
struct Level {
    /// `[batch, height, width, dim]`
    message: Tensor<4>,
    /// `[batch * num_heads, groups, queries, candidates]`
    weights: Tensor<4>,
    /// `[batch * num_heads, groups, candidates]`
    candidates: Tensor<3, Int>,
    cells: Cells,
}

impl Level {
    /// For each cell and head the children of the keys that it weighs most: candidates of the next finer level.
    ///
    /// # Shapes
    /// - output: `[batch * num_heads, height * width, 4 * topk]`
    fn hand_down(self, topk: usize) -> Tensor<3, Int> {
        let Self { weights, candidates, cells, .. } = self;
        let [maps, groups, queries, keys] = weights.dims();
        let weights = weights.reshape([maps, groups * queries, keys]);
        let best = topk_regions(weights, topk.min(keys)); // [maps, groups * queries, topk], of candidates
        let candidates = candidates.unsqueeze_dim::<4>(2).repeat_dim(2, queries);
        let best = candidates.reshape([maps, groups * queries, keys]).gather(2, best); // of all keys
        let [_, width] = cells.size;
        children(cells.merge(best.reshape([maps, groups, queries, topk.min(keys)])), width)
    }
}

impl ValueBranch {
    /// # Shapes
    /// - value: `[batch, height, width, dim]`
    /// - output: `[batch, height / 2, width / 2, dim]`
    fn forward(&self, value: Tensor<4>) -> Tensor<4> {
        let normalized = |norm: &GroupNorm, x: Tensor<4>| {
            norm.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
        };
        let coarse = convolve(&self.halve, gelu(normalized(&self.norm_fine, value)));
        self.mix.forward(gelu(normalized(&self.norm_coarse, coarse)))
    }
}

/// [`MASKED`] for what holds nothing of the picture.
///
/// # Shapes
/// - output: `[height * width]`
fn padding_bias([height, width]: [usize; 2], size: [usize; 2], device: &Device) -> Tensor<1> {
    let is_padding = |token: usize| token / width >= size[0] || token % width >= size[1];
    let bias_of = |token| if is_padding(token) { MASKED } else { 0.0 };
    let bias: Vec<f32> = (0..height * width).map(bias_of).collect();
    Tensor::from_data(TensorData::new(bias, [height * width]), device)
}
