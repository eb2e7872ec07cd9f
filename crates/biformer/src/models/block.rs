//! One BiFormer block (paper Fig. 3): position encoding, attention, perceptron.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};

use crate::attention::{Attention, AttentionConfig, AttentionTrace};
use crate::layers::{DepthwiseConv, DropPath, Mlp, MlpConfig};

/// Official: every layer norm of the models.
pub(crate) const LAYER_NORM_EPS: f64 = 1e-6;

/// Configuration of [`Block`].
#[derive(Config, Debug)]
pub struct BlockConfig {
    /// Channels in and out.
    pub dim: usize,
    /// What the block holds as attention.
    pub attention: AttentionConfig,
    /// Whether a 3 × 3 depthwise convolution encodes positions (T, S, B; not the Swin layout).
    pub pos_embed: bool,
    /// Hidden channels of the perceptron per channel.
    pub mlp_ratio: usize,
    /// Stochastic depth of both branches.
    pub drop_path: f64,
}

/// x + dwconv(x), then x + attention(norm(x)), then x + mlp(norm(x)).
#[derive(Module, Debug)]
pub struct Block {
    /// Position encoding, if there is one.
    pub pos_embed: Option<DepthwiseConv>,
    /// In front of the attention.
    pub norm1: LayerNorm,
    /// The attention.
    pub attn: Attention,
    /// In front of the perceptron.
    pub norm2: LayerNorm,
    /// The perceptron.
    pub mlp: Mlp,
    /// Stochastic depth of both branches.
    pub drop_path: DropPath,
}

impl BlockConfig {
    /// The block with fresh weights.
    pub fn init(&self, device: &Device) -> Block {
        let norm = || LayerNormConfig::new(self.dim).with_epsilon(LAYER_NORM_EPS).init(device);
        Block {
            pos_embed: self.pos_embed.then(|| DepthwiseConv::new(self.dim, 3, device)),
            norm1: norm(),
            attn: self.attention.init(device),
            norm2: norm(),
            mlp: MlpConfig::new(self.dim, self.mlp_ratio).init(device),
            drop_path: DropPath::new(self.drop_path),
        }
    }
}

impl Block {
    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.encode_position(x);
        let attended = self.attn.forward(self.norm1.forward(x.clone()));
        self.finish(x, attended)
    }

    /// [`Block::forward`] with what the attention did.
    pub fn forward_traced(&self, x: Tensor<4>) -> (Tensor<4>, AttentionTrace) {
        let x = self.encode_position(x);
        let trace = self.attn.forward_traced(self.norm1.forward(x.clone()));
        (self.finish(x, trace.output.clone()), trace)
    }

    fn encode_position(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.pos_embed {
            Some(conv) => x.clone() + conv.forward(x),
            None => x,
        }
    }

    fn finish(&self, x: Tensor<4>, attended: Tensor<4>) -> Tensor<4> {
        let x = x + self.drop_path.forward(attended);
        x.clone() + self.drop_path.forward(self.mlp.forward(self.norm2.forward(x)))
    }
}
