//! One BiFormer block (paper Fig. 3): position encoding, attention, perceptron.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::attention::{Attention, AttentionConfig, AttentionTrace};
use crate::layers::{DepthwiseConv, DropPath, LayerNorm, Mlp, MlpConfig};

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
    /// Epsilon of the layer norms.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
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
        let norm = || LayerNorm::new(self.dim, device).with_epsilon(self.norm_epsilon);
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
        let x = self
            .add_branch(x, |x, residual| self.attn.forward_fused(x, Some(&self.norm1), residual));
        self.add_branch(x, |x, residual| self.mlp.forward_fused(x, Some(&self.norm2), residual))
    }

    /// [`Block::forward`] with what the attention did.
    pub fn forward_traced(&self, x: Tensor<4>) -> (Tensor<4>, AttentionTrace) {
        let x = self.encode_position(x);
        let trace = self.attn.forward_traced(self.norm1.forward(x.clone()));
        let x = x + self.drop_path.forward(trace.output.clone());
        let output = self
            .add_branch(x, |x, residual| self.mlp.forward_fused(x, Some(&self.norm2), residual));
        (output, trace)
    }

    /// See [`Linear::for_inference`](crate::layers::Linear::for_inference).
    pub fn for_inference(self, precision: Precision) -> Self {
        let (attn, mlp) = (self.attn.for_inference(precision), self.mlp.for_inference(precision));
        let pos_embed = self.pos_embed.map(DepthwiseConv::for_inference);
        Self { pos_embed, attn, mlp, ..self }
    }

    fn encode_position(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.pos_embed {
            Some(conv) => conv.forward_add(x.clone(), x),
            None => x,
        }
    }

    /// x + branch(x). The branch adds its residual itself where nothing can be dropped.
    fn add_branch(
        &self,
        x: Tensor<4>,
        branch: impl Fn(Tensor<4>, Option<Tensor<4>>) -> Tensor<4>,
    ) -> Tensor<4> {
        if self.drop_path.is_active(&x) {
            let branch = branch(x.clone(), None).cast(x.dtype());
            return x + self.drop_path.forward(branch);
        }
        branch(x.clone(), Some(x))
    }
}
