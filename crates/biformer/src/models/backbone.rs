//! What dense models stand on: any backbone that gives four maps.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{BiFormer, BiFormerConfig, InitializedBackbone, MODEL_NAMES};
use super::{VIT_NAMES, Vit, VitConfig};
use crate::attention::{Attention, AttentionTrace};
use crate::weights::{KeyMismatch, KeyStyle, StateDict};
use crate::{Error, Result};

/// Configuration of [`Backbone`].
#[derive(Config, Debug)]
pub enum BackboneConfig {
    /// The pyramid of the paper.
    BiFormer(BiFormerConfig),
    /// A plain ViT (supplement D).
    Vit(VitConfig),
}

/// A backbone.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one of them in a model
pub enum Backbone {
    /// The pyramid of the paper.
    BiFormer(BiFormer),
    /// A plain ViT (supplement D).
    Vit(Vit),
}

impl BackboneConfig {
    /// The configuration of a model that [`BiFormerConfig::from_name`] knows, or of one of [`VIT_NAMES`].
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such model.
    pub fn from_name(name: &str) -> Result<Self> {
        if VIT_NAMES.contains(&name) {
            return VitConfig::from_name(name).map(Self::Vit);
        }
        BiFormerConfig::from_name(name).map(Self::BiFormer).map_err(|_| {
            let known = [MODEL_NAMES.as_slice(), &VIT_NAMES].concat().join(", ");
            Error::option("model", format!("no model `{name}`; there are {known}"))
        })
    }

    /// Channels of the maps C2–C5.
    pub fn channels(&self) -> [usize; 4] {
        match self {
            Self::BiFormer(config) => config.embed_dims,
            Self::Vit(config) => [config.pyramid_channels; 4],
        }
    }

    /// Blocks of each stage; those of a plain ViT are all in the first.
    pub fn depths(&self) -> [usize; 4] {
        match self {
            Self::BiFormer(config) => config.depths,
            Self::Vit(config) => [config.depth, 0, 0, 0],
        }
    }

    /// The names that its weights have in files.
    pub fn key_style(&self) -> KeyStyle {
        match self {
            Self::BiFormer(config) => config.key_style(),
            Self::Vit(_) => KeyStyle::Vit,
        }
    }

    /// Whether its attentions keep a trace.
    pub fn is_traceable(&self) -> bool {
        match self {
            Self::BiFormer(config) => config.is_traceable(),
            Self::Vit(_) => true,
        }
    }

    /// The same with other stochastic depth.
    pub fn with_drop_path_rate(self, rate: f64) -> Self {
        match self {
            Self::BiFormer(config) => Self::BiFormer(config.with_drop_path_rate(rate)),
            Self::Vit(config) => Self::Vit(config.with_drop_path_rate(rate)),
        }
    }

    /// The same with other regions a side.
    pub fn with_n_win(self, n_win: usize) -> Self {
        match self {
            Self::BiFormer(config) => Self::BiFormer(config.with_n_win(n_win)),
            Self::Vit(config) => Self::Vit(config.with_n_win(n_win)),
        }
    }

    /// The backbone with fresh weights.
    pub fn init(&self, device: &Device) -> Backbone {
        match self {
            Self::BiFormer(config) => Backbone::BiFormer(config.init(device)),
            Self::Vit(config) => Backbone::Vit(config.init(device)),
        }
    }
}

impl From<BiFormerConfig> for BackboneConfig {
    fn from(config: BiFormerConfig) -> Self {
        Self::BiFormer(config)
    }
}

impl From<VitConfig> for BackboneConfig {
    fn from(config: VitConfig) -> Self {
        Self::Vit(config)
    }
}

impl Backbone {
    /// What it was built from.
    pub fn config(&self) -> BackboneConfig {
        match self {
            Self::BiFormer(backbone) => backbone.config.clone().into(),
            Self::Vit(backbone) => backbone.config.clone().into(),
        }
    }

    /// The names that its weights have in files.
    pub fn key_style(&self) -> KeyStyle {
        self.config().key_style()
    }

    /// Regions a side.
    pub fn n_win(&self) -> usize {
        match self {
            Self::BiFormer(backbone) => backbone.config.n_win,
            Self::Vit(backbone) => backbone.config.n_win,
        }
    }

    /// The maps C2–C5 (strides 4, 8, 16, 32), channels-last.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - outputs: `[batch, height / stride, width / stride, channels[i]]`
    pub fn forward_maps(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        match self {
            Self::BiFormer(backbone) => backbone.forward_maps(x),
            Self::Vit(backbone) => backbone.forward_maps(x),
        }
    }

    /// [`Backbone::forward_maps`] with what each attention did, by stage; those of a plain ViT are all in the first.
    pub fn forward_traced(&self, x: Tensor<4>) -> ([Tensor<4>; 4], [Vec<AttentionTrace>; 4]) {
        match self {
            Self::BiFormer(backbone) => {
                let (maps, traces) = backbone.forward_traced(x);
                (backbone.with_extra_norms(maps), traces)
            }
            Self::Vit(backbone) => {
                let (maps, traces) = backbone.forward_traced(x);
                (maps, [traces, Vec::new(), Vec::new(), Vec::new()])
            }
        }
    }

    /// The attentions of a stage, counted from 0.
    pub fn attentions(&self, stage: usize) -> Vec<&Attention> {
        let blocks = match self {
            Self::BiFormer(backbone) => &backbone.stages[stage].blocks,
            Self::Vit(backbone) if stage == 0 => &backbone.blocks,
            Self::Vit(_) => return Vec::new(),
        };
        blocks.iter().map(|block| &block.attn).collect()
    }

    /// See [`BiFormer::for_inference_in`].
    pub fn for_inference_in(self, precision: Precision) -> Self {
        match self {
            Self::BiFormer(backbone) => Self::BiFormer(backbone.for_inference_in(precision)),
            Self::Vit(backbone) => Self::Vit(backbone.for_inference_in(precision)),
        }
    }

    /// See [`BiFormer::with_classifier_weights`] and [`Vit::with_classifier_weights`].
    ///
    /// # Errors
    /// What is missing, unexpected or of another shape; then no backbone comes back.
    pub fn with_classifier_weights(
        self,
        weights: StateDict,
    ) -> Result<InitializedBackbone<Self>, KeyMismatch> {
        match self {
            Self::BiFormer(backbone) => {
                Ok(backbone.with_classifier_weights(weights)?.map(Self::BiFormer))
            }
            Self::Vit(backbone) => Ok(backbone.with_classifier_weights(weights)?.map(Self::Vit)),
        }
    }
}
