//! Backbone, neck and heads: mmsegmentation's `EncoderDecoder`.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{FcnHead, FcnHeadConfig, SemanticFpnConfig, SemanticFpnHead, UperHead, UperHeadConfig};
use crate::layers::{Fpn, FpnConfig};
use crate::models::{Backbone, BackboneConfig};
use crate::{Error, Result};

/// The methods by name, in the order of Table 4.
pub const METHOD_NAMES: [&str; 2] = ["semantic_fpn", "upernet"];

/// Regions a side of backbones for segmentation (§4.3).
const N_WIN: usize = 8;

/// Configuration of [`Segmentor`].
#[derive(Config, Debug)]
pub struct SegmentorConfig {
    /// What maps come from.
    pub backbone: BackboneConfig,
    /// What classifies pixels.
    pub decode_head: DecodeHeadConfig,
    /// Classes; the 150 of ADE20K if nothing else is said.
    #[config(default = 150)]
    pub num_classes: usize,
}

/// Configuration of [`DecodeHead`], and of what comes with each.
#[derive(Config, Debug, PartialEq)]
pub enum DecodeHeadConfig {
    /// Behind a feature pyramid.
    SemanticFpn(SemanticFpnConfig),
    /// With an auxiliary head.
    Uper(UperHeadConfig, FcnHeadConfig),
}

/// A backbone with what classifies each pixel.
#[derive(Module, Debug)]
pub struct Segmentor {
    /// What maps come from.
    pub backbone: Backbone,
    /// Between maps and head.
    pub neck: Option<Fpn>,
    /// From maps to logits.
    pub decode_head: DecodeHead,
    /// From C4 to logits, for training.
    pub auxiliary_head: Option<FcnHead>,
}

/// What classifies pixels.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one of them in a model
pub enum DecodeHead {
    /// Of a feature pyramid.
    SemanticFpn(SemanticFpnHead),
    /// Of the maps themselves.
    Uper(UperHead),
}

/// Logits of training.
#[derive(Clone, Debug)]
pub struct SegmentorOutput {
    /// Of the decode head, `[batch, num_classes, height / 4, width / 4]`.
    pub logits: Tensor<4>,
    /// Of the auxiliary head, `[batch, num_classes, height / 16, width / 16]`.
    pub auxiliary: Option<Tensor<4>>,
}

impl SegmentorConfig {
    /// Semantic FPN as in Table 4: 8 × 8 regions, a layer norm on each map, a pyramid of 256 and a head
    /// of 128 channels.
    pub fn semantic_fpn(backbone: impl Into<BackboneConfig>) -> Self {
        Self::new(dense(backbone.into()), DecodeHeadConfig::SemanticFpn(SemanticFpnConfig::new()))
    }

    /// UPerNet as in Table 4: 8 × 8 regions, a layer norm on each map, a head of 512 and an
    /// auxiliary one of 256 channels.
    pub fn upernet(backbone: impl Into<BackboneConfig>) -> Self {
        let backbone = backbone.into();
        let channels = backbone.channels();
        let head = UperHeadConfig::new(channels);
        let auxiliary = FcnHeadConfig::new(channels[2]);
        Self::new(dense(backbone), DecodeHeadConfig::Uper(head, auxiliary))
    }

    /// The method of one of [`METHOD_NAMES`] on a backbone of one of
    /// [`MODEL_NAMES`](crate::models::MODEL_NAMES) or [`VIT_NAMES`](crate::models::VIT_NAMES).
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such model or method.
    pub fn from_names(backbone: &str, method: &str) -> Result<Self> {
        Self::for_method(method, BackboneConfig::from_name(backbone)?)
    }

    /// The method of one of [`METHOD_NAMES`] on any backbone.
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such method.
    pub fn for_method(method: &str, backbone: impl Into<BackboneConfig>) -> Result<Self> {
        match method {
            "semantic_fpn" => Ok(Self::semantic_fpn(backbone)),
            "upernet" => Ok(Self::upernet(backbone)),
            _ => {
                let known = METHOD_NAMES.join(", ");
                let reason = format!("no method `{method}`; there are {known}");
                Err(Error::option("method", reason))
            }
        }
    }

    /// The name of the method, one of [`METHOD_NAMES`].
    pub fn method(&self) -> &'static str {
        match self.decode_head {
            DecodeHeadConfig::SemanticFpn(_) => "semantic_fpn",
            DecodeHeadConfig::Uper(..) => "upernet",
        }
    }

    /// The segmentor with fresh weights.
    pub fn init(&self, device: &Device) -> Segmentor {
        let backbone = self.backbone.init(device);
        match &self.decode_head {
            DecodeHeadConfig::SemanticFpn(head) => {
                let neck = FpnConfig::new(self.backbone.channels().to_vec())
                    .with_channels_out(head.pyramid_channels);
                Segmentor {
                    backbone,
                    neck: Some(neck.init(device)),
                    decode_head: DecodeHead::SemanticFpn(head.init(self.num_classes, device)),
                    auxiliary_head: None,
                }
            }
            DecodeHeadConfig::Uper(head, auxiliary) => Segmentor {
                backbone,
                neck: None,
                decode_head: DecodeHead::Uper(head.init(self.num_classes, device)),
                auxiliary_head: Some(auxiliary.init(self.num_classes, device)),
            },
        }
    }
}

impl Segmentor {
    /// The logits of the decode head; [`resize_logits`](super::resize_logits) brings them to the size
    /// of the picture.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes, height / 4, width / 4]`, rounded up
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.decode(self.backbone.forward_maps(x))
    }

    /// [`Segmentor::forward`], and the logits of the auxiliary head.
    pub fn forward_train(&self, x: Tensor<4>) -> SegmentorOutput {
        let maps = self.backbone.forward_maps(x);
        let [_, _, c4, _] = maps.clone();
        let auxiliary = self.auxiliary_head.as_ref().map(|head| head.forward(c4));
        SegmentorOutput { logits: self.decode(maps), auxiliary }
    }

    /// Neck and decode head alone.
    ///
    /// # Shapes
    /// - maps: C2–C5, `[batch, height, width, channels]`
    /// - output: `[batch, num_classes, height, width]` of C2
    pub fn decode(&self, maps: [Tensor<4>; 4]) -> Tensor<4> {
        let levels = match &self.neck {
            Some(neck) => neck.forward(&maps),
            None => maps.into(),
        };
        match &self.decode_head {
            DecodeHead::SemanticFpn(head) => head.forward(&levels),
            DecodeHead::Uper(head) => head.forward(&levels),
        }
    }

    /// See [`BiFormer::for_inference`](crate::models::BiFormer::for_inference). The auxiliary head is left out.
    pub fn for_inference(self) -> Self {
        self.for_inference_in(Precision::F32)
    }

    /// See [`Backbone::for_inference_in`]. The last layer, which has the last word, stays in float32.
    pub fn for_inference_in(self, precision: Precision) -> Self {
        Self {
            backbone: self.backbone.for_inference_in(precision),
            neck: self.neck.map(|neck| neck.for_inference(precision)),
            decode_head: match self.decode_head {
                DecodeHead::SemanticFpn(head) => {
                    DecodeHead::SemanticFpn(head.for_inference(precision))
                }
                DecodeHead::Uper(head) => DecodeHead::Uper(head.for_inference(precision)),
            },
            auxiliary_head: None,
        }
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        match &self.decode_head {
            DecodeHead::SemanticFpn(head) => head.conv_seg.num_classes(),
            DecodeHead::Uper(head) => head.conv_seg.num_classes(),
        }
    }
}

/// The backbone as segmentation has it.
pub(super) fn dense(backbone: BackboneConfig) -> BackboneConfig {
    match backbone.with_n_win(N_WIN) {
        BackboneConfig::BiFormer(config) => config.with_extra_norms(true).into(),
        vit => vit, // whose pyramid has norms of its own
    }
}
