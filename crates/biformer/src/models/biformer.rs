//! BiFormer (Zhu et al., CVPR 2023): paper <https://arxiv.org/abs/2303.08810>, official code
//! <https://github.com/rayleizhu/BiFormer>.
//!
//! A pyramid of four stages. Each embeds patches, then runs blocks of bi-level routing
//! attention (stages 1 to 3) or of attention to all tokens (stage 4, which the paper calls
//! BRA with k = S²). The Swin layout of the ablation (STL) differs in data alone, so that
//! Table 6's path from one to the other is a walk through configurations, and so does each row
//! of Table 5, which has another attention in all blocks.

use biformer_ops::{Precision, keep_awake};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::{Block, BlockConfig};
use crate::attention::{AttentionConfig, AttentionTrace, BraConfig, FullAttentionConfig};
use crate::attention::{BlockPlace, Lepe, RegionRule, STL_NAMES, StlAttentionConfig, StlMechanism};
use crate::layers::drop_path_rates;
use crate::layers::{LayerNorm, PYTORCH_EPSILON, PatchEmbed, PatchEmbedConfig, PatchEmbedKind};
use crate::weights::KeyStyle;
use crate::{Error, Result};

/// Ours and the paper's, smallest first, then those of its ablations, and what it is compared with.
const NAMES: [&str; 13] = [
    "biformer_pico",
    "biformer_nano",
    "biformer_tiny",
    "biformer_small",
    "biformer_base",
    "biformer_stl",
    "biformer_stl_nchw",
    "biformer_stl_overlapped",
    "biformer_stl_topk_1_2_8_32",
    "biformer_stl_topk_2_8_32_49",
    "biformer_stl_n_win_8_4_2_1",
    "biformer_small_no_pos",
    "swin_tiny",
];

/// The models by name: ours and the paper's, smallest first, then those of its ablations and its comparisons.
pub const MODEL_NAMES: [&str; NAMES.len() + STL_NAMES.len()] = {
    let mut names = [""; NAMES.len() + STL_NAMES.len()];
    let (first, last) = names.split_at_mut(NAMES.len());
    first.copy_from_slice(&NAMES);
    last.copy_from_slice(&STL_NAMES);
    names
};

/// Numbers of a batch of maps that no longer fit into a cache of a few megabytes.
const LARGE_MAPS: usize = 1 << 19;

/// Configuration of [`BiFormer`].
#[derive(Config, Debug)]
pub struct BiFormerConfig {
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Channels of each stage.
    pub embed_dims: [usize; 4],
    /// Hidden channels of the perceptrons per channel.
    #[config(default = 3)]
    pub mlp_ratio: usize,
    /// Channels of a head. Where all tokens attend to all in stage 4, that always has 8 heads.
    #[config(default = 32)]
    pub head_dim: usize,
    /// Regions a side, the paper's S: 7 for classification, 8 for segmentation, 16 for
    /// detection.
    #[config(default = 7)]
    pub n_win: usize,
    /// Whether each stage has half as many regions a side as the one before. Off but in one row of the
    /// supplement's Table 1.
    #[config(default = false)]
    pub halve_n_win: bool,
    /// Routed regions of stages 1 to 3, the paper's k.
    #[config(default = "[1, 4, 16]")]
    pub topks: [usize; 3],
    /// Routed regions of stage 4. Without it, as in all models but one, all tokens attend to all.
    pub last_topk: Option<usize>,
    /// Stem and merging, overlapping or not.
    #[config(default = "PatchEmbedKind::Overlapped")]
    pub patch_embed: PatchEmbedKind,
    /// Whether blocks encode positions with a 3 × 3 depthwise convolution.
    #[config(default = true)]
    pub pos_embed: bool,
    /// How sizes that do not divide are cut into regions.
    #[config(default = "RegionRule::PadFirst")]
    pub region_rule: RegionRule,
    /// Local enhancement of stage 4.
    #[config(default = "Lepe::Input")]
    pub lepe: Lepe,
    /// Whether padded tokens are left out of routing and attention. Off in the official models.
    #[config(default = false)]
    pub mask_padding: bool,
    /// Stochastic depth of the last block; linear over depth from 0.
    #[config(default = 0.0)]
    pub drop_path_rate: f64,
    /// Whether C2–C5 get a layer norm each, as dense tasks have it (official `extra_norms`).
    #[config(default = false)]
    pub extra_norms: bool,
    /// The attention of all blocks, in place of bi-level routing and of that of stage 4.
    pub mechanism: Option<StlMechanism>,
}

impl BiFormerConfig {
    /// Ours, for pictures as small as those of CIFAR, to be seen at 64²: 1.3 M parameters with 1000
    /// classes.
    pub fn pico() -> Self {
        Self::new([1, 1, 2, 1], [32, 64, 128, 192]).with_n_win(4).with_topks([1, 4, 8])
    }

    /// Ours, for small pictures and small machines: 1.9 M parameters with 1000 classes. Its 4 × 4 regions fit
    /// sizes that are multiples of 64 without padding.
    pub fn nano() -> Self {
        Self::new([1, 1, 3, 1], [32, 64, 128, 256]).with_n_win(4).with_topks([1, 4, 8])
    }

    /// BiFormer-T, Table 1.
    pub fn tiny() -> Self {
        Self::new([2, 2, 8, 2], [64, 128, 256, 512])
    }

    /// BiFormer-S, Table 1.
    pub fn small() -> Self {
        Self::new([4, 4, 18, 4], [64, 128, 256, 512])
    }

    /// BiFormer-B, Table 1.
    pub fn base() -> Self {
        Self::new([4, 4, 18, 4], [96, 192, 384, 768])
    }

    /// BiFormer-STL: Swin-T's layout, Tables 5 and 6.
    pub fn stl() -> Self {
        Self::new([2, 2, 6, 2], [96, 192, 384, 768])
            .with_mlp_ratio(4)
            .with_patch_embed(PatchEmbedKind::NonOverlapped)
            .with_pos_embed(false)
    }

    /// The official second writing of BiFormer-STL, with other padding and LePE of V.
    pub fn stl_nchw() -> Self {
        Self::stl().with_region_rule(RegionRule::Floor).with_lepe(Lepe::Value)
    }

    /// Second row of Table 6: STL with overlapped patch embedding.
    pub fn stl_overlapped() -> Self {
        Self::stl().with_patch_embed(PatchEmbedKind::Overlapped)
    }

    /// Second row of the supplement's Table 1: 64, 32, 32 and 32 tokens to attend at 224².
    pub fn stl_topk_1_2_8_32() -> Self {
        Self::stl().with_topks([1, 2, 8]).with_last_topk(Some(32))
    }

    /// Third row of the supplement's Table 1: 128, 128, 128 and 49 tokens to attend at 224².
    pub fn stl_topk_2_8_32_49() -> Self {
        Self::stl().with_topks([2, 8, 32])
    }

    /// Fourth row of the supplement's Table 1: 98, 98, 98 and 49 tokens to attend at 224². Its one region of stage
    /// 4 is all of the map.
    pub fn stl_n_win_8_4_2_1() -> Self {
        Self::stl().with_n_win(8).with_halve_n_win(true).with_topks([2, 2, 2])
    }

    /// A row of Table 5: the Swin layout with another attention in all blocks.
    pub fn stl_with(mechanism: StlMechanism) -> Self {
        Self::stl().with_mechanism(Some(mechanism))
    }

    /// A small version of a model in the Swin layout, for comparisons of its attentions on small pictures and small
    /// machines: 2 blocks a stage, 32 to 256 channels in heads of 16, so that all stages have an even number of
    /// them. Its 4 × 4 regions fit sizes that are multiples of 64.
    pub fn narrow(self) -> Self {
        Self { depths: [2; 4], embed_dims: [32, 64, 128, 256], ..self }
            .with_head_dim(16)
            .with_n_win(4)
    }

    /// Swin-T itself, with its own embedding and norms, for its weights.
    pub fn swin_tiny() -> Self {
        Self::stl_with(StlMechanism::ShiftedWindow).with_patch_embed(PatchEmbedKind::Swin)
    }

    /// Third row of Table 6, the deeper layout: S without convolutional position encoding.
    pub fn small_no_pos() -> Self {
        Self::small().with_pos_embed(false)
    }

    /// The configuration of one of [`MODEL_NAMES`], or of the [narrow](Self::narrow) version of `biformer_stl` or of
    /// one of [`STL_NAMES`], whose name has `_nano` behind.
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such model.
    pub fn from_name(name: &str) -> Result<Self> {
        if let Some(layout) = name.strip_suffix("_nano")
            && (layout == "biformer_stl" || STL_NAMES.contains(&layout))
        {
            return Ok(Self::from_name(layout)?.narrow());
        }
        if let Some(mechanism) = StlMechanism::of_model(name) {
            return Ok(Self::stl_with(mechanism));
        }
        Ok(match name {
            "biformer_pico" => Self::pico(),
            "biformer_nano" => Self::nano(),
            "biformer_tiny" => Self::tiny(),
            "biformer_small" => Self::small(),
            "biformer_base" => Self::base(),
            "biformer_stl" => Self::stl(),
            "biformer_stl_nchw" => Self::stl_nchw(),
            "biformer_stl_overlapped" => Self::stl_overlapped(),
            "biformer_stl_topk_1_2_8_32" => Self::stl_topk_1_2_8_32(),
            "biformer_stl_topk_2_8_32_49" => Self::stl_topk_2_8_32_49(),
            "biformer_stl_n_win_8_4_2_1" => Self::stl_n_win_8_4_2_1(),
            "biformer_small_no_pos" => Self::small_no_pos(),
            "swin_tiny" => Self::swin_tiny(),
            _ => {
                let known = MODEL_NAMES.join(", ");
                return Err(Error::option(
                    "model",
                    format!("no model `{name}`; there are {known}"),
                ));
            }
        })
    }

    /// The names that the official code gives the weights of such a model. Its `biformer.py` has
    /// overlapped patch embedding alone and the two of STL the other alone, so that it tells.
    pub fn key_style(&self) -> KeyStyle {
        match (self.patch_embed, self.region_rule) {
            (PatchEmbedKind::Overlapped, _) => KeyStyle::BiFormer,
            (PatchEmbedKind::NonOverlapped, RegionRule::PadFirst) => KeyStyle::Stl,
            (PatchEmbedKind::NonOverlapped, RegionRule::Floor) => KeyStyle::StlNchw,
            (PatchEmbedKind::Swin, _) => KeyStyle::Swin,
        }
    }

    /// Whether its attentions keep a trace: bi-level routing and the attention of stage 4.
    pub fn is_traceable(&self) -> bool {
        self.mechanism.is_none()
    }

    /// Regions a side in a stage, from 0.
    pub fn n_win_of(&self, stage: usize) -> usize {
        if self.halve_n_win { (self.n_win >> stage).max(1) } else { self.n_win }
    }

    /// Epsilon of its layer norms: 1e-6, in Swin PyTorch's own.
    pub fn norm_epsilon(&self) -> f64 {
        if self.patch_embed == PatchEmbedKind::Swin { PYTORCH_EPSILON } else { 1e-6 }
    }

    /// # Panics
    /// If a width is not a multiple of `head_dim` or of 8 (stage 4), or not even (stem).
    pub fn init(&self, device: &Device) -> BiFormer {
        let rates = drop_path_rates(self.drop_path_rate, self.depths.iter().sum());
        let stage = |i: usize| {
            let first = self.depths[..i].iter().sum::<usize>();
            let rates = &rates[first..first + self.depths[i]];
            let blocks = rates.iter().enumerate();
            Stage { blocks: blocks.map(|(j, &rate)| self.block(i, j, rate).init(device)).collect() }
        };
        let extra_norm =
            |&dim: &usize| LayerNorm::new(dim, device).with_epsilon(self.norm_epsilon());
        BiFormer {
            downsample_layers: (0..4).map(|i| self.patch_embed(i).init(device)).collect(),
            stages: (0..4).map(stage).collect(),
            extra_norms: self.extra_norms.then(|| self.embed_dims.iter().map(extra_norm).collect()),
            config: self.clone(),
        }
    }

    fn patch_embed(&self, stage: usize) -> PatchEmbedConfig {
        let channels_in = if stage == 0 { 3 } else { self.embed_dims[stage - 1] };
        PatchEmbedConfig::new(self.patch_embed, channels_in, self.embed_dims[stage], stage == 0)
    }

    fn block(&self, stage: usize, block: usize, drop_path: f64) -> BlockConfig {
        let dim = self.embed_dims[stage];
        let topk = self.topks.get(stage).copied().or(self.last_topk);
        let attention = match (self.mechanism, topk) {
            (Some(mechanism), _) => {
                let place = BlockPlace { dim, num_heads: dim / self.head_dim, stage, block };
                AttentionConfig::Stl(StlAttentionConfig { mechanism, place })
            }
            (None, Some(topk)) => AttentionConfig::Bra(
                BraConfig::new(dim, dim / self.head_dim, self.n_win_of(stage), topk)
                    .with_region_rule(self.region_rule)
                    .with_mask_padding(self.mask_padding),
            ),
            (None, None) => {
                AttentionConfig::Full(FullAttentionConfig::new(dim).with_lepe(self.lepe))
            }
        };
        BlockConfig::new(dim, attention, self.pos_embed, self.mlp_ratio, drop_path)
            .with_norm_epsilon(self.norm_epsilon())
    }
}

/// The backbone.
#[derive(Module, Debug)]
pub struct BiFormer {
    /// The embedding in front of each stage.
    pub downsample_layers: Vec<PatchEmbed>,
    /// The blocks of each stage.
    pub stages: Vec<Stage>,
    /// A layer norm for each map, for dense tasks.
    pub extra_norms: Option<Vec<LayerNorm>>,
    /// What it was built from.
    #[module(skip)]
    pub config: BiFormerConfig,
}

/// The blocks of one resolution.
#[derive(Module, Debug)]
pub struct Stage {
    pub blocks: Vec<Block>,
}

impl BiFormer {
    /// The maps C2–C5 (strides 4, 8, 16, 32), each through its extra norm if there is one.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - outputs: `[batch, embed_dims[i], height / stride, width / stride]`
    pub fn forward_features(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        self.forward_maps(x).map(|map| map.permute([0, 3, 1, 2])) // [batch, channels, height, width]
    }

    /// The same maps channels-last, as our own necks and heads take them.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - outputs: `[batch, height / stride, width / stride, embed_dims[i]]`
    pub fn forward_maps(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        self.with_extra_norms(self.forward_stages(x))
    }

    /// The maps after the stages, each through its extra norm if there is one.
    ///
    /// # Shapes
    /// - maps, outputs: `[batch, height / stride, width / stride, embed_dims[i]]`
    pub fn with_extra_norms(&self, maps: [Tensor<4>; 4]) -> [Tensor<4>; 4] {
        let Some(norms) = &self.extra_norms else { return maps };
        let mut norms = norms.iter();
        maps.map(|map| norms.next().expect("a norm for each map").forward(map))
    }

    /// The model with batch norms folded into convolutions and weights in the order in which the
    /// device's kernels read them. It gives the same outputs within rounding, faster, and can
    /// neither be trained nor saved.
    pub fn for_inference(self) -> Self {
        self.for_inference_in(Precision::F32)
    }

    /// [`BiFormer::for_inference`] with products of another precision. All but linear layers and
    /// embeddings computes in float32.
    ///
    /// # Panics
    /// If [`Precision::check`] gives an error.
    pub fn for_inference_in(self, precision: Precision) -> Self {
        let embeds = self.downsample_layers.into_iter();
        let stages = self.stages.into_iter().map(|stage| {
            let blocks = stage.blocks.into_iter().map(|block| block.for_inference(precision));
            Stage { blocks: blocks.collect() }
        });
        Self {
            downsample_layers: embeds.map(|embed| embed.for_inference(precision)).collect(),
            stages: stages.collect(),
            ..self
        }
    }

    /// The channels-last maps after each stage, without extra norms.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - outputs: `[batch, height / stride, width / stride, embed_dims[i]]`
    pub fn forward_stages(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        let mut x = x.permute([0, 2, 3, 1]); // [batch, height, width, 3]
        let is_fused = biformer_ops::is_fused(&x);
        let mut stages = || {
            std::array::from_fn(|i| {
                x = self.forward_stage(i, x.clone());
                x.clone()
            })
        };
        if is_fused { keep_awake(stages) } else { stages() }
    }

    /// Embedding and blocks of one stage. Without gradients large maps go through it picture by
    /// picture, so that what a block writes is still in a cache when the next one reads it.
    fn forward_stage(&self, stage: usize, x: Tensor<4>) -> Tensor<4> {
        let run = |x: Tensor<4>| {
            let embedded = self.downsample_layers[stage].forward(x);
            self.stages[stage].blocks.iter().fold(embedded, |x, block| block.forward(x))
        };
        let [batch, height, width, _] = x.dims();
        let stride = if stage == 0 { 4 } else { 2 };
        let numbers = batch * height * width * self.config.embed_dims[stage] / (stride * stride);
        if batch == 1 || numbers < LARGE_MAPS || !biformer_ops::is_fused(&x) {
            return run(x);
        }
        let pictures = x.split(1, 0);
        Tensor::cat(pictures.into_par_iter().map(run).collect(), 0)
    }

    /// [`BiFormer::forward_stages`] with `change` made to the map between the stem and the first block,
    /// where MixToken mixes pictures.
    pub fn forward_stages_with(
        &self,
        x: Tensor<4>,
        change: impl FnOnce(Tensor<4>) -> Tensor<4>,
    ) -> [Tensor<4>; 4] {
        let stem = self.downsample_layers[0].forward(x.permute([0, 2, 3, 1]));
        let mut x = change(stem); // [batch, height / 4, width / 4, embed_dims[0]]
        std::array::from_fn(|i| {
            if i > 0 {
                x = self.downsample_layers[i].forward(x.clone());
            }
            x = self.stages[i].blocks.iter().fold(x.clone(), |x, block| block.forward(x));
            x.clone()
        })
    }

    /// [`BiFormer::forward_stages`] with what each attention did: one list of traces a stage.
    ///
    /// # Panics
    /// If not [`BiFormerConfig::is_traceable`].
    pub fn forward_traced(&self, x: Tensor<4>) -> ([Tensor<4>; 4], [Vec<AttentionTrace>; 4]) {
        let mut x = x.permute([0, 2, 3, 1]); // [batch, height, width, 3]
        let mut traces = [const { Vec::new() }; 4];
        let maps = std::array::from_fn(|i| {
            x = self.downsample_layers[i].forward(x.clone());
            for block in &self.stages[i].blocks {
                let (output, trace) = block.forward_traced(x.clone());
                traces[i].push(trace);
                x = output;
            }
            x.clone()
        });
        (maps, traces)
    }
}
