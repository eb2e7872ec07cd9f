//! Criss-cross attention (CCNet; Huang et al., ICCV 2019, <https://arxiv.org/abs/1811.11721>).
//!
//! A token u attends to the H + W − 1 tokens of its row and its column in one softmax (Eq. 1–2):
//!
//! yᵤ = Σ softmax(qᵤ · kᵢ / √d) vᵢ over i in row(u) ∪ column(u)
//!
//! The token itself is in both, and counts once. The heads, and Q and K of all channels, are those of the Swin
//! layout; CCNet has one head, an eighth of the channels in Q and K, and no scale.

use biformer_ops::{Precision, split_qkv};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::softmax};

use super::biased_attention::mask;
use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use crate::layers::Linear;

/// Configuration of [`CrissCrossAttention`].
#[derive(Config, Debug)]
pub struct CrissCrossConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
}

/// Attention of each token to those of its row and its column.
#[derive(Module, Debug)]
pub struct CrissCrossAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: CrissCrossConfig,
}

impl CrissCrossConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> CrissCrossAttention {
        head_dim(self.dim, self.num_heads);
        CrissCrossAttention {
            qkv: Linear::new(self.dim, 3 * self.dim, true, device),
            output: Linear::new(self.dim, self.dim, true, device),
            config: self.clone(),
        }
    }
}

impl BlockAttention for CrissCrossAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        CrissCrossConfig::new(place.dim, place.num_heads).init(device)
    }

    fn num_heads(&self) -> usize {
        self.config.num_heads
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, dim] = x.dims();
        let num_heads = self.config.num_heads;
        let head_dim = dim / num_heads;
        let qkv = split_qkv(self.qkv.forward(x));
        // Tokens by rows, [batch, height, num_heads, width, head_dim], and by columns.
        let rows = qkv.map(|x| {
            x.reshape([batch, height, width, num_heads, head_dim]).permute([0, 1, 3, 2, 4])
        });
        let cols = rows.clone().map(across);

        let scale = (head_dim as f64).powf(-0.5);
        let similarity = |[query, key, _]: [Tensor<5>; 3]| {
            (query * scale).matmul(key.swap_dims(3, 4)) // [batch, lines, num_heads, tokens, tokens]
        };
        let itself = mask([1, height, height], |_, query, key| query != key, &rows[0].device());
        let to_col = across(similarity(cols.clone()) + itself.unsqueeze::<5>());
        let to_row = similarity(rows.clone());
        // [batch, height, num_heads, width, width + height]
        let weights = softmax(Tensor::cat(vec![to_row, to_col], 4), 4);
        let to_row = weights.clone().narrow(4, 0, width);
        let to_col = across(weights.narrow(4, width, height)); // [batch, width, num_heads, height, height]

        let [[.., row_value], [.., col_value]] = [rows, cols];
        let attended = to_row.matmul(row_value) + across(to_col.matmul(col_value));
        let attended = attended.permute([0, 1, 3, 2, 4]).reshape([batch, height, width, dim]);
        self.output.forward(attended)
    }

    fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, ..self }
    }

    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let (tokens, dim) = (height * width, self.config.dim);
        let pairs = tokens * (height + width - 1);
        vec![
            ("qkv", Part::Linear(&self.qkv, tokens)),
            ("attention", Part::Attention { pairs, tokens, dim }),
            ("output", Part::Linear(&self.output, tokens)),
        ]
    }
}

/// From rows to columns, and back.
///
/// # Shapes
/// - x: `[batch, height, num_heads, width, n]`
/// - output: `[batch, width, num_heads, height, n]`
fn across(x: Tensor<5>) -> Tensor<5> {
    x.swap_dims(1, 3)
}
