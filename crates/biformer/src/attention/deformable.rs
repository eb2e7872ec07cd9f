//! Deformable attention (DAT; Xia et al., CVPR 2022, <https://arxiv.org/abs/2201.00520>).
//!
//! Every token attends to the same sampled points, which move to where the picture asks for them (§3.2).
//! For each group of channels a small network θ gives an offset from each token, K and V are made of what
//! lies there, and B is read from a table at the distance between query and point:
//!
//! q = x W_q, k̃ = x̃ W_k, ṽ = x̃ W_v; Δp = s/2 · tanh(θ(q)), x̃ = φ(x; p + Δp) (Eq. 4–5);
//!
//! z = softmax(q k̃ᵀ / √d + φ(B̂; R)) ṽ (Eq. 8)
//!
//! φ is bilinear interpolation, which sees zeros beyond the edge; s = 2 keeps a point within one token of
//! where it began. Points begin at the tokens themselves, the paper's p; the official code has them half a token
//! further along. In DAT-T such blocks take turns with windows in stages 3 and 4 (3 and 6 groups), and
//! windows with shifted ones in stages 1 and 2 (Table 1).

use biformer_ops::{Precision, gelu};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::biased_attention::biased_attention;
use super::bilinear_sampling::bilinear_sample;
use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::shifted_window::{ShiftedWindowAttention, ShiftedWindowConfig};
use crate::layers::{DepthwiseConv, LayerNorm, Linear};

/// s: twice the tokens that a point can be moved.
const OFFSET_RANGE_FACTOR: f64 = 2.0;

/// What DAT-T has in a block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one of them in a block
pub enum DatAttention {
    /// Windows, shifted in every second block of stages 1 and 2.
    Window(ShiftedWindowAttention),
    /// Every second block of stages 3 and 4.
    Deformable(DeformableAttention),
}

/// Configuration of [`DeformableAttention`].
#[derive(Config, Debug)]
pub struct DeformableConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Groups of channels with offsets of their own; must divide the heads.
    pub groups: usize,
    /// Side of the depthwise kernel of the offsets.
    pub kernel_size: usize,
    /// Tokens a side of the map that the table of B is made for.
    pub map_size: usize,
}

/// Attention of all tokens to points that move.
#[derive(Module, Debug)]
pub struct DeformableAttention {
    /// Q of each token.
    pub q: Linear,
    /// K and V of each point, in one projection.
    pub kv: Linear,
    /// θ: from Q to offsets, the same for all groups.
    pub offsets: OffsetNetwork,
    /// B̂: `[num_heads, 2 * map_size - 1, 2 * map_size - 1]`
    pub rpe_table: Param<Tensor<3>>,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: DeformableConfig,
}

/// Depthwise convolution, layer norm, GELU, and a linear layer to an offset down and one to the right.
#[derive(Module, Debug)]
pub struct OffsetNetwork {
    /// What the neighbourhood of a token says.
    pub depthwise: DepthwiseConv,
    /// Over the channels of a group.
    pub normalize: LayerNorm,
    /// To two numbers.
    pub project: Linear,
}

impl DeformableConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`, or `groups` does not divide `num_heads`.
    pub fn init(&self, device: &Device) -> DeformableAttention {
        let Self { dim, num_heads, groups, kernel_size, map_size } = *self;
        head_dim(dim, num_heads);
        assert!(
            num_heads.is_multiple_of(groups),
            "num_heads must be divisible by groups, got {num_heads} heads and {groups} groups"
        );
        let side = 2 * map_size - 1;
        let table = Initializer::Normal { mean: 0.0, std: 0.01 };
        DeformableAttention {
            q: Linear::new(dim, dim, true, device),
            kv: Linear::new(dim, 2 * dim, true, device),
            offsets: OffsetNetwork {
                depthwise: DepthwiseConv::new(dim / groups, kernel_size, device),
                normalize: LayerNorm::new(dim / groups, device),
                project: Linear::new(dim / groups, 2, false, device),
            },
            rpe_table: table.init([num_heads, side, side], device),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl BlockAttention for DatAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let BlockPlace { dim, num_heads, stage, .. } = *place;
        if stage >= 2 && place.is_second() {
            let groups = if num_heads.is_multiple_of(4) { num_heads / 4 } else { 1 };
            // As the official code chooses it by the map: 5 × 5 at 14², 3 × 3 at 7².
            let kernel_size = if stage == 2 { 5 } else { 3 };
            let map_size = place.map_size();
            let config = DeformableConfig { dim, num_heads, groups, kernel_size, map_size };
            return Self::Deformable(config.init(device));
        }
        let config = ShiftedWindowConfig::new(dim, num_heads).with_shifted(place.is_second());
        Self::Window(config.init(device))
    }

    fn num_heads(&self) -> usize {
        match self {
            Self::Window(attention) => attention.num_heads(),
            Self::Deformable(attention) => attention.config.num_heads,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Window(attention) => attention.forward(x),
            Self::Deformable(attention) => attention.forward(x),
        }
    }

    fn for_inference(self, precision: Precision) -> Self {
        match self {
            Self::Window(attention) => Self::Window(attention.for_inference(precision)),
            Self::Deformable(attention) => {
                let DeformableAttention { q, kv, output, .. } = attention;
                let [q, kv, output] = [q, kv, output].map(|linear| linear.for_inference(precision));
                Self::Deformable(DeformableAttention { q, kv, output, ..attention })
            }
        }
    }

    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let attention = match self {
            Self::Window(attention) => return attention.parts([height, width]),
            Self::Deformable(attention) => attention,
        };
        let DeformableConfig { dim, groups, .. } = attention.config;
        let OffsetNetwork { depthwise, normalize, project } = &attention.offsets;
        let (tokens, of_groups) = (height * width, groups * height * width);
        let table = attention.rpe_table.lazy_shape().num_elements();
        vec![
            ("q", Part::Linear(&attention.q, tokens)),
            ("offsets.depthwise", Part::DepthwiseConv(depthwise, of_groups)),
            ("offsets.normalize", Part::LayerNorm(normalize, of_groups)),
            ("offsets.project", Part::Linear(project, of_groups)),
            ("kv", Part::Linear(&attention.kv, tokens)),
            ("rpe_table", Part::Parameters(table)),
            ("attention", Part::Attention { pairs: tokens * tokens, tokens, dim }),
            ("output", Part::Linear(&attention.output, tokens)),
        ]
    }
}

impl DeformableAttention {
    /// # Shapes
    /// - x: `[batch, height, width, dim]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, dim] = x.dims();
        let (tokens, group_dim) = (height * width, dim / self.config.groups);
        let query = self.q.forward(x.clone());
        let [rows, cols] = self.points(self.groups(query.clone())); // p + Δp

        let sampled = bilinear_sample(self.groups(x), rows.clone(), cols.clone()); // x̃
        let sampled = sampled.reshape([batch, self.config.groups, tokens, group_dim]);
        let sampled = sampled.swap_dims(1, 2).reshape([batch, 1, tokens, dim]);
        let kv = self.kv.forward(sampled);
        let [key, value] = [0, 1].map(|i| kv.clone().narrow(3, i * dim, dim));

        let bias = self.bias(rows, cols, [batch, height, width]);
        // Each picture has a bias of its own: one window a picture, in a batch of one.
        let pictures = |x: Tensor<4>| x.reshape([1, batch, tokens, dim]);
        let qkv = [pictures(query), pictures(key), pictures(value)];
        let attended = biased_attention(qkv, Some(bias), self.config.num_heads);
        self.output.forward(attended.reshape([batch, height, width, dim]))
    }

    /// The groups of channels as pictures of their own.
    ///
    /// # Shapes
    /// - x: `[batch, height, width, dim]`
    /// - output: `[batch * groups, height, width, dim / groups]`
    fn groups(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, dim] = x.dims();
        let (groups, group_dim) = (self.config.groups, dim / self.config.groups);
        x.reshape([batch, height, width, groups, group_dim])
            .permute([0, 3, 1, 2, 4]) // [batch, groups, height, width, group_dim]
            .reshape([batch * groups, height, width, group_dim])
    }

    /// Rows and columns of the points, in tokens.
    ///
    /// # Shapes
    /// - query: `[batch * groups, height, width, dim / groups]`
    /// - outputs: `[batch * groups, height * width]`
    fn points(&self, query: Tensor<4>) -> [Tensor<2>; 2] {
        let [maps, height, width, _] = query.dims();
        let OffsetNetwork { depthwise, normalize, project } = &self.offsets;
        let hidden = gelu(normalize.forward(depthwise.forward(query)));
        let offsets = project.forward(hidden).tanh() * (OFFSET_RANGE_FACTOR / 2.0); // Δp
        let references = reference_points([height, width], &offsets.device()); // p
        [0, 1].map(|axis| {
            let offset = offsets.clone().narrow(3, axis, 1).reshape([maps, height * width]);
            offset + references[axis].clone()
        })
    }

    /// φ(B̂; R), R the distances between queries and points. On maps of another size than that of the table
    /// distances are stretched to it.
    ///
    /// # Shapes
    /// - rows, cols: `[batch * groups, points]`
    /// - output: `[batch, num_heads, height * width, points]`
    fn bias(
        &self,
        rows: Tensor<2>,
        cols: Tensor<2>,
        [batch, height, width]: [usize; 3],
    ) -> Tensor<4> {
        let DeformableConfig { num_heads, groups, map_size, .. } = self.config;
        let [maps, points] = rows.dims();
        let (tokens, heads) = (height * width, num_heads / groups);
        let middle = (map_size - 1) as f64;
        let references = reference_points([height, width], &rows.device());
        let place = |axis: usize, points_at: Tensor<2>, side: usize| {
            let stretch = if side > 1 { middle / (side - 1) as f64 } else { 1.0 };
            let query = references[axis].clone().reshape([1, tokens, 1]);
            let distance = query - points_at.reshape([maps, 1, points]);
            (distance * stretch + middle).reshape([maps, tokens * points])
        };
        let (rows, cols) = (place(0, rows, height), place(1, cols, width));
        let side = 2 * map_size - 1;
        let tables = self.rpe_table.val().reshape([groups, heads, side, side]);
        let tables = tables.permute([0, 2, 3, 1]).repeat_dim(0, batch); // [batch * groups, .., heads]
        let bias = bilinear_sample(tables, rows, cols); // [batch * groups, tokens * points, heads]
        bias.swap_dims(1, 2).reshape([batch, num_heads, tokens, points])
    }
}

/// Row and column of each token.
///
/// # Shapes
/// - outputs: `[1, height * width]`
fn reference_points([height, width]: [usize; 2], device: &Device) -> [Tensor<2>; 2] {
    let tokens = height * width;
    let places = |place: fn(usize, usize) -> usize| {
        let places: Vec<f32> = (0..tokens).map(|token| place(token, width) as f32).collect();
        Tensor::from_data(TensorData::new(places, [1, tokens]), device)
    };
    [places(|token, width| token / width), places(|token, width| token % width)]
}
