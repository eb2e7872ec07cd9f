//! Backbone, pyramid and heads: mmdetection's `RetinaNet` and `MaskRCNN`.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::detections::{DetectOptions, Detection};
use super::ground_truth::{GroundTruth, PictureSize};
use super::mask_rcnn::{MaskRcnnConfig, MaskRcnnHead};
use super::retina_head::{RetinaHead, RetinaHeadConfig};
use crate::layers::{CoarserLevels, Fpn, FpnConfig};
use crate::models::{BiFormer, BiFormerConfig};
use crate::{Error, Result};

/// The methods by name, in the order of Table 3.
pub const METHOD_NAMES: [&str; 2] = ["retinanet", "mask_rcnn"];

/// Regions a side of backbones for detection (§4.2).
const N_WIN: usize = 16;

/// Configuration of [`Detector`].
#[derive(Config, Debug)]
pub struct DetectorConfig {
    /// What maps come from.
    pub backbone: BiFormerConfig,
    /// What finds things.
    pub heads: DetectorHeadsConfig,
    /// Classes; the 80 of COCO if nothing else is said.
    #[config(default = 80)]
    pub num_classes: usize,
}

/// Configuration of [`DetectorHeads`], and of the pyramid that comes with each.
#[derive(Config, Debug, PartialEq)]
pub enum DetectorHeadsConfig {
    /// On P3–P7.
    RetinaNet(RetinaHeadConfig),
    /// On P2–P6.
    MaskRcnn(MaskRcnnConfig),
}

/// A backbone with what finds things in pictures.
#[derive(Module, Debug)]
pub struct Detector {
    /// What maps come from.
    pub backbone: BiFormer,
    /// Between maps and heads.
    pub neck: Fpn,
    /// From levels to what is where.
    pub heads: DetectorHeads,
}

/// What finds things in a pyramid.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one of them in a model
pub enum DetectorHeads {
    /// In one step, from anchors.
    RetinaNet(RetinaHead),
    /// In two, from the regions that the first proposes; with masks.
    MaskRcnn(MaskRcnnHead),
}

/// What a training step has to say of its batch.
#[derive(Clone, Debug)]
pub struct DetectionLosses {
    /// The sum, to be minimised. `[1]`
    pub loss: Tensor<1>,
    /// Its parts under mmdetection's names. `[1]` each
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

impl DetectorConfig {
    /// RetinaNet as in Table 3: 16 × 16 regions, a layer norm on each map, pyramid and head of 256 channels.
    pub fn retinanet(backbone: BiFormerConfig) -> Self {
        Self::new(dense(backbone), DetectorHeadsConfig::RetinaNet(RetinaHeadConfig::new()))
    }

    /// Mask R-CNN as in Table 3: 16 × 16 regions, a layer norm on each map, a pyramid of 256 channels, heads of 1024
    /// for boxes and of 256 for masks.
    pub fn mask_rcnn(backbone: BiFormerConfig) -> Self {
        Self::new(dense(backbone), DetectorHeadsConfig::MaskRcnn(MaskRcnnConfig::new()))
    }

    /// The method of one of [`METHOD_NAMES`] on a backbone of one of
    /// [`MODEL_NAMES`](crate::models::MODEL_NAMES).
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such model or method.
    pub fn from_names(backbone: &str, method: &str) -> Result<Self> {
        let backbone = BiFormerConfig::from_name(backbone)?;
        match method {
            "retinanet" => Ok(Self::retinanet(backbone)),
            "mask_rcnn" => Ok(Self::mask_rcnn(backbone)),
            _ => {
                let known = METHOD_NAMES.join(", ");
                let reason = format!("no method `{method}` of detection; there are {known}");
                Err(Error::option("method", reason))
            }
        }
    }

    /// The name of the method, one of [`METHOD_NAMES`].
    pub fn method(&self) -> &'static str {
        match self.heads {
            DetectorHeadsConfig::RetinaNet(_) => "retinanet",
            DetectorHeadsConfig::MaskRcnn(_) => "mask_rcnn",
        }
    }

    /// Whether the method draws masks.
    pub fn has_masks(&self) -> bool {
        matches!(self.heads, DetectorHeadsConfig::MaskRcnn(_))
    }

    /// The detector with fresh weights.
    pub fn init(&self, device: &Device) -> Detector {
        let neck = |maps: &[usize], channels: usize, coarser_levels| {
            FpnConfig::new(maps.to_vec())
                .with_channels_out(channels)
                .with_coarser_levels(coarser_levels)
                .init(device)
        };
        let (dims, classes) = (&self.backbone.embed_dims, self.num_classes);
        let (neck, heads) = match &self.heads {
            DetectorHeadsConfig::RetinaNet(head) => (
                neck(&dims[1..], head.pyramid_channels, CoarserLevels::OnInput), // C3–C5
                DetectorHeads::RetinaNet(head.init(classes, device)),
            ),
            DetectorHeadsConfig::MaskRcnn(head) => (
                neck(dims, head.pyramid_channels, CoarserLevels::MaxPool),
                DetectorHeads::MaskRcnn(head.init(classes, device)),
            ),
        };
        Detector { backbone: self.backbone.init(device), neck, heads }
    }
}

impl Detector {
    /// The losses of a batch.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`, sides that the stride of C5 divides
    /// - truths: `[batch]`, with masks if the method draws them
    pub fn forward_train(&self, x: Tensor<4>, truths: &[GroundTruth]) -> DetectionLosses {
        let levels = self.levels(x);
        let parts = match &self.heads {
            DetectorHeads::RetinaNet(head) => {
                let losses = head.losses(&head.forward(&levels), truths);
                vec![("loss_cls", sum(losses.loss_cls)), ("loss_bbox", sum(losses.loss_bbox))]
            }
            DetectorHeads::MaskRcnn(head) => {
                let losses = head.losses(&levels, truths);
                vec![
                    ("loss_rpn_cls", losses.loss_rpn_cls),
                    ("loss_rpn_bbox", losses.loss_rpn_bbox),
                    ("loss_cls", losses.loss_cls),
                    ("loss_bbox", losses.loss_bbox),
                    ("loss_mask", losses.loss_mask),
                ]
            }
        };
        let loss = sum(parts.iter().map(|(_, loss)| loss.clone()));
        DetectionLosses { loss, parts }
    }

    /// What is in each picture of a batch, best first.
    ///
    /// # Shapes
    /// - x: as for [`forward_train`](Self::forward_train)
    /// - sizes, output: `[batch]`
    ///
    /// # Errors
    /// [`Error::Option`] if the outputs of the heads are no numbers.
    pub fn detect(
        &self,
        x: Tensor<4>,
        sizes: &[PictureSize],
        options: &DetectOptions,
    ) -> Result<Vec<Vec<Detection>>> {
        let levels = self.levels(x);
        match &self.heads {
            DetectorHeads::RetinaNet(head) => {
                head.detections(&head.forward(&levels), sizes, options)
            }
            DetectorHeads::MaskRcnn(head) => head.detections(&levels, sizes, options),
        }
    }

    /// The levels of the pyramid, finest first.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`
    /// - outputs: `[batch, height / stride, width / stride, channels]`
    pub fn levels(&self, x: Tensor<4>) -> Vec<Tensor<4>> {
        let maps = self.backbone.forward_maps(x);
        let finest = maps.len() - self.neck.lateral_convs.len();
        self.neck.forward(&maps[finest..])
    }

    /// See [`BiFormer::for_inference`].
    pub fn for_inference(self) -> Self {
        self.for_inference_in(Precision::F32)
    }

    /// See [`BiFormer::for_inference_in`].
    pub fn for_inference_in(self, precision: Precision) -> Self {
        Self {
            backbone: self.backbone.for_inference_in(precision),
            neck: self.neck.for_inference(precision),
            heads: match self.heads {
                DetectorHeads::RetinaNet(head) => {
                    DetectorHeads::RetinaNet(head.for_inference(precision))
                }
                DetectorHeads::MaskRcnn(head) => {
                    DetectorHeads::MaskRcnn(head.for_inference(precision))
                }
            },
        }
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        match &self.heads {
            DetectorHeads::RetinaNet(head) => head.num_classes(),
            DetectorHeads::MaskRcnn(head) => head.num_classes(),
        }
    }
}

/// The backbone as detection has it.
pub(super) fn dense(backbone: BiFormerConfig) -> BiFormerConfig {
    backbone.with_n_win(N_WIN).with_extra_norms(true)
}

fn sum(losses: impl IntoIterator<Item = Tensor<1>>) -> Tensor<1> {
    losses.into_iter().reduce(|sum, loss| sum + loss).expect("a loss")
}
