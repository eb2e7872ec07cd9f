//! Class attention (Touvron et al., *Going deeper with Image Transformers*, 2021, §3): blocks in which
//! only a class token looks around, as Wave-ViT (Yao et al., 2022) has one after its last stage.

use biformer_ops::Precision;
use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::softmax};

use crate::layers::{LayerNorm, Linear, Mlp, MlpConfig};

/// As many as the attention of stage 4 has.
const HEADS: usize = 8;

/// Wave-ViT's last stage; with it the parameters of BiFormer-S with token labeling are the paper's.
const MLP_RATIO: usize = 4;

/// class + attention(norm(class and tokens)), then class + mlp(norm(class)).
///
/// Names and layout of the weights are those of Wave-ViT's `post_network`.
#[derive(Module, Debug)]
pub struct ClassBlock {
    /// In front of the attention, of class token and tokens alike.
    pub norm1: LayerNorm,
    /// From the class token to all tokens.
    pub attn: ClassAttention,
    /// In front of the perceptron.
    pub norm2: LayerNorm,
    /// Of the class token.
    pub mlp: Mlp,
}

/// Attention of the class token to itself and to all tokens.
#[derive(Module, Debug)]
pub struct ClassAttention {
    /// Q of the class token.
    pub q: Linear,
    /// K and V of all in one projection.
    pub kv: Linear,
    /// Output projection.
    pub proj: Linear,
}

impl ClassBlock {
    /// A block with fresh weights.
    ///
    /// # Panics
    /// If `dim` is not a multiple of 8.
    pub fn new(dim: usize, device: &Device) -> Self {
        assert!(dim.is_multiple_of(HEADS), "dim must be divisible by {HEADS} heads, got {dim}");
        Self {
            norm1: LayerNorm::new(dim, device),
            attn: ClassAttention {
                q: Linear::new(dim, dim, true, device),
                kv: Linear::new(dim, 2 * dim, true, device),
                proj: Linear::new(dim, dim, true, device),
            },
            norm2: LayerNorm::new(dim, device),
            mlp: MlpConfig::new(dim, MLP_RATIO).init(device),
        }
    }

    /// # Shapes
    /// - class: `[batch, 1, 1, channels]`
    /// - tokens: `[batch, height, width, channels]`
    /// - output: like `class`
    pub fn forward(&self, class: Tensor<4>, tokens: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = tokens.dims();
        let tokens = tokens.reshape([batch, 1, height * width, channels]);
        let all = Tensor::cat(vec![class.clone(), tokens], 2); // [batch, 1, 1 + height * width, channels]
        let class = class + self.attn.forward(self.norm1.forward(all));
        self.mlp.forward_fused(class.clone(), Some(&self.norm2), Some(class))
    }

    /// See [`Linear::for_inference`].
    pub fn for_inference(self, precision: Precision) -> Self {
        let ClassAttention { q, kv, proj } = self.attn;
        let attn = ClassAttention {
            q: q.for_inference(precision),
            kv: kv.for_inference(precision),
            proj: proj.for_inference(precision),
        };
        Self { attn, mlp: self.mlp.for_inference(precision), ..self }
    }
}

impl ClassAttention {
    /// # Shapes
    /// - all: `[batch, 1, 1 + tokens, channels]`, the class token in front
    /// - output: of the class token, `[batch, 1, 1, channels]`
    pub fn forward(&self, all: Tensor<4>) -> Tensor<4> {
        let [batch, _, count, channels] = all.dims();
        let head_dim = channels / HEADS;
        let heads = |x: Tensor<4>, count: usize| {
            x.reshape([batch, count, HEADS, head_dim]).swap_dims(1, 2)
            // [batch, heads, count, head_dim]
        };
        let query = heads(self.q.forward(all.clone().narrow(2, 0, 1)), 1);
        let kv = self.kv.forward(all); // [batch, 1, 1 + tokens, 2 * channels]
        let [key, value] =
            [0, 1].map(|i| heads(kv.clone().narrow(3, i * channels, channels), count));
        let scale = (head_dim as f64).powf(-0.5);
        let weights = softmax(query.mul_scalar(scale).matmul(key.swap_dims(2, 3)), 3);
        let attended = weights.matmul(value); // [batch, heads, 1, head_dim]
        self.proj.forward(attended.reshape([batch, 1, 1, channels]))
    }
}
