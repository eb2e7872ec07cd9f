//! A plain ViT (Dosovitskiy et al., ICLR 2021) in DeiT's layout (Touvron et al., ICML 2021) for dense tasks, with
//! bi-level routing attention in its blocks: the paper's supplement D.
//!
//! One map at stride 16 from the first block to the last; ViTDet's Simple Feature Pyramid makes four of it.
//! Names are timm's. There is no class token: nothing would ask it.

use biformer_ops::{Precision, keep_awake};
use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use super::{Block, BlockConfig, ConvPropagation};
use crate::attention::{Attention, AttentionConfig, AttentionTrace, BraConfig};
use crate::attention::{FullAttentionConfig, Lepe, WindowAttentionConfig};
use crate::layers::{DepthwiseConv, LayerNorm, PatchProjection, drop_path_rates, resize_bicubic};
use crate::layers::{SimpleFeaturePyramid, SimpleFeaturePyramidConfig};
use crate::{Error, Result};

/// The models by name: DeiT's sizes, each with the five rows of the supplement's Table 2.
pub const VIT_NAMES: [&str; 15] = [
    "vit_tiny_window",
    "vit_tiny_bra",
    "vit_tiny_window_conv",
    "vit_tiny_window_global",
    "vit_tiny_bra_global",
    "vit_small_window",
    "vit_small_bra",
    "vit_small_window_conv",
    "vit_small_window_global",
    "vit_small_bra_global",
    "vit_base_window",
    "vit_base_bra",
    "vit_base_window_conv",
    "vit_base_window_global",
    "vit_base_bra_global",
];

/// Where propagation happens: once at the end of each quarter of the blocks, as in ViTDet.
const QUARTERS: usize = 4;

/// What blocks hold as attention.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum VitAttention {
    /// Attention to all tokens, as DeiT was trained.
    Global,
    /// Attention within windows.
    Window,
    /// Bi-level routing attention.
    Bra,
}

/// How what blocks know spreads beyond their windows or regions.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// By the blocks alone.
    None,
    /// The last block of each quarter attends to all tokens.
    Global,
    /// A convolutional block follows each quarter.
    Conv,
}

/// Configuration of [`Vit`].
#[derive(Config, Debug)]
pub struct VitConfig {
    /// Channels.
    pub embed_dim: usize,
    /// Heads of all attentions; must divide `embed_dim`.
    pub num_heads: usize,
    /// Blocks, a multiple of 4.
    #[config(default = 12)]
    pub depth: usize,
    /// Hidden channels of the perceptrons per channel.
    #[config(default = 4)]
    pub mlp_ratio: usize,
    /// Pixels along a side of a token.
    #[config(default = 16)]
    pub patch_size: usize,
    /// Tokens along a side of the map that positions are learnt for: 32 of a picture of 512².
    #[config(default = 32)]
    pub grid: usize,
    /// What blocks hold as attention.
    #[config(default = "VitAttention::Global")]
    pub attention: VitAttention,
    /// Tokens along a side of a window.
    #[config(default = 14)]
    pub window_size: usize,
    /// Regions a side, the paper's S: 8 on 32 × 32 tokens are regions of 4 × 4.
    #[config(default = 8)]
    pub n_win: usize,
    /// Routed regions, the paper's k.
    #[config(default = 12)]
    pub topk: usize,
    /// How what blocks know spreads.
    #[config(default = "Propagation::None")]
    pub propagation: Propagation,
    /// Stochastic depth of the last block; linear over depth from 0.
    #[config(default = 0.0)]
    pub drop_path_rate: f64,
    /// Channels of each map of the pyramid.
    #[config(default = 256)]
    pub pyramid_channels: usize,
}

impl VitConfig {
    /// DeiT-Ti.
    pub fn tiny() -> Self {
        Self::new(192, 3)
    }

    /// DeiT-S.
    pub fn small() -> Self {
        Self::new(384, 6)
    }

    /// DeiT-B, as in supplement D.
    pub fn base() -> Self {
        Self::new(768, 12)
    }

    /// The configuration of one of [`VIT_NAMES`].
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such model.
    pub fn from_name(name: &str) -> Result<Self> {
        let unknown = || {
            let known = VIT_NAMES.join(", ");
            Error::option("model", format!("no model `{name}`; there are {known}"))
        };
        let parts = name.strip_prefix("vit_").and_then(|parts| parts.split_once('_'));
        let (size, row) = parts.ok_or_else(unknown)?;
        let config = match size {
            "tiny" => Self::tiny(),
            "small" => Self::small(),
            "base" => Self::base(),
            _ => return Err(unknown()),
        };
        let (attention, propagation) = match row {
            "window" => (VitAttention::Window, Propagation::None),
            "bra" => (VitAttention::Bra, Propagation::None),
            "window_conv" => (VitAttention::Window, Propagation::Conv),
            "window_global" => (VitAttention::Window, Propagation::Global),
            "bra_global" => (VitAttention::Bra, Propagation::Global),
            _ => return Err(unknown()),
        };
        Ok(config.with_attention(attention).with_propagation(propagation))
    }

    /// # Panics
    /// If `num_heads` does not divide `embed_dim`, or the depth is no multiple of 4.
    pub fn init(&self, device: &Device) -> Vit {
        let &Self { embed_dim: dim, depth, grid, .. } = self;
        assert!(
            depth > 0 && depth.is_multiple_of(QUARTERS),
            "vit: got {depth} blocks, expected a multiple of {QUARTERS}"
        );
        let rates = drop_path_rates(self.drop_path_rate, depth);
        let block = |(i, &rate): (usize, &f64)| self.block(i, rate, device);
        let propagations = if self.propagation == Propagation::Conv { QUARTERS } else { 0 };
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        let pyramid = SimpleFeaturePyramidConfig::new(dim);
        Vit {
            patch_embed: PatchProjection::new(self.patch_size, dim, device),
            pos_embed: normal.init([1, grid * grid, dim], device),
            blocks: rates.iter().enumerate().map(block).collect(),
            propagation: (0..propagations).map(|_| ConvPropagation::new(dim, device)).collect(),
            norm: LayerNorm::new(dim, device),
            pyramid: pyramid.with_channels_out(self.pyramid_channels).init(device),
            config: self.clone(),
        }
    }

    /// A block whose function is that of its projections: the local enhancement of routing attention, which
    /// ViTs lack, begins at zero.
    fn block(&self, i: usize, drop_path: f64, device: &Device) -> Block {
        let attention = self.attention(i);
        let config = BlockConfig::new(self.embed_dim, attention, false, self.mlp_ratio, drop_path);
        let mut block = config.init(device);
        if let Attention::Bra(attention) = &mut block.attn {
            let [_, _, kernel_size, _] = attention.lce.weight.dims();
            attention.lce = DepthwiseConv::zeros(self.embed_dim, kernel_size, device);
        }
        block
    }

    fn attention(&self, i: usize) -> AttentionConfig {
        let &Self { embed_dim: dim, num_heads, window_size, n_win, topk, .. } = self;
        let ends_quarter = (i + 1).is_multiple_of(self.depth / QUARTERS);
        let attention = match self.propagation {
            Propagation::Global if ends_quarter => VitAttention::Global,
            _ => self.attention,
        };
        match attention {
            VitAttention::Global => AttentionConfig::Full(
                FullAttentionConfig::new(dim)
                    .with_num_heads(num_heads)
                    .with_lepe(Lepe::None)
                    .with_qkv_bias(true),
            ),
            VitAttention::Window => AttentionConfig::Window(
                WindowAttentionConfig::new(dim, num_heads).with_window_size(window_size),
            ),
            // The scale that the projections were learnt with; no released weights depend on padding here.
            VitAttention::Bra => AttentionConfig::Bra(
                BraConfig::new(dim, num_heads, n_win, topk)
                    .with_qk_scale(Some(((dim / num_heads) as f64).powf(-0.5)))
                    .with_mask_padding(true),
            ),
        }
    }
}

/// The backbone.
#[derive(Module, Debug)]
pub struct Vit {
    /// From pixels to tokens.
    pub patch_embed: PatchProjection,
    /// Added to the tokens, `[1, grid * grid, embed_dim]`.
    pub pos_embed: Param<Tensor<3>>,
    /// All at stride 16.
    pub blocks: Vec<Block>,
    /// One after each quarter of the blocks, or none.
    pub propagation: Vec<ConvPropagation>,
    /// Behind the last block.
    pub norm: LayerNorm,
    /// From one map to four.
    pub pyramid: SimpleFeaturePyramid,
    /// What it was built from.
    #[module(skip)]
    pub config: VitConfig,
}

impl Vit {
    /// The maps of the pyramid (strides 4, 8, 16, 32), channels-last.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - outputs: `[batch, rows / 2^i, cols / 2^i, pyramid_channels]`, i from −2 to 1, of rows and cols as in
    ///   [`Vit::forward_map`]
    pub fn forward_maps(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        self.pyramid.forward(self.forward_map(x))
    }

    /// The one map of all blocks.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - output: `[batch, rows, cols, embed_dim]`, rows and cols the sides over `patch_size`, rounded up
    pub fn forward_map(&self, x: Tensor<4>) -> Tensor<4> {
        let is_fused = biformer_ops::is_fused(&x);
        let blocks = || {
            let blocks = self.blocks.iter().enumerate();
            blocks.fold(self.embed(x), |x, (i, block)| self.propagate(i, block.forward(x)))
        };
        self.norm.forward(if is_fused { keep_awake(blocks) } else { blocks() })
    }

    /// [`Vit::forward_maps`] with what each attention did.
    pub fn forward_traced(&self, x: Tensor<4>) -> ([Tensor<4>; 4], Vec<AttentionTrace>) {
        let (mut x, mut traces) = (self.embed(x), Vec::new());
        for (i, block) in self.blocks.iter().enumerate() {
            let (output, trace) = block.forward_traced(x);
            traces.push(trace);
            x = self.propagate(i, output);
        }
        (self.pyramid.forward(self.norm.forward(x)), traces)
    }

    /// See [`BiFormer::for_inference_in`](super::BiFormer::for_inference_in).
    pub fn for_inference_in(self, precision: Precision) -> Self {
        let blocks = self.blocks.into_iter().map(|block| block.for_inference(precision));
        let propagation = self.propagation.into_iter().map(|conv| conv.for_inference(precision));
        Self {
            patch_embed: self.patch_embed.for_inference(precision),
            blocks: blocks.collect(),
            propagation: propagation.collect(),
            pyramid: self.pyramid.for_inference(precision),
            ..self
        }
    }

    /// Tokens with their positions, which are resized if the map has another size.
    fn embed(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.patch_embed.forward(x.permute([0, 2, 3, 1])); // [batch, rows, cols, embed_dim]
        let [_, rows, cols, dim] = x.dims();
        let grid = self.config.grid;
        let positions = self.pos_embed.val().reshape([1, grid, grid, dim]);
        x + resize_bicubic(positions, [rows, cols])
    }

    /// The propagation block behind block `i`, if there is one, with its place.
    pub(crate) fn propagation_after(&self, i: usize) -> Option<(usize, &ConvPropagation)> {
        let quarter = self.blocks.len() / QUARTERS;
        let place = (i + 1).is_multiple_of(quarter).then_some(i / quarter)?;
        Some((place, self.propagation.get(place)?))
    }

    fn propagate(&self, i: usize, x: Tensor<4>) -> Tensor<4> {
        match self.propagation_after(i) {
            Some((_, propagation)) => propagation.forward(x),
            None => x,
        }
    }
}
