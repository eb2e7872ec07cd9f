//! Backbone, pyramid and heads: mmdetection's `RetinaNet`.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::detections::{DetectOptions, Detection};
use super::ground_truth::{GroundTruth, PictureSize};
use super::retina_head::{RetinaHead, RetinaHeadConfig};
use crate::layers::{CoarserLevels, Fpn, FpnConfig};
use crate::models::{BiFormer, BiFormerConfig};
use crate::{Error, Result};

/// The methods by name, in the order of Table 3.
pub const METHOD_NAMES: [&str; 1] = ["retinanet"];

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
pub enum DetectorHeads {
    /// In one step, from anchors.
    RetinaNet(RetinaHead),
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

    /// The method of one of [`METHOD_NAMES`] on a backbone of one of
    /// [`MODEL_NAMES`](crate::models::MODEL_NAMES).
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such model or method.
    pub fn from_names(backbone: &str, method: &str) -> Result<Self> {
        let backbone = BiFormerConfig::from_name(backbone)?;
        match method {
            "retinanet" => Ok(Self::retinanet(backbone)),
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
        }
    }

    /// The detector with fresh weights.
    pub fn init(&self, device: &Device) -> Detector {
        let finer = &self.backbone.embed_dims[1..]; // C3–C5
        match &self.heads {
            DetectorHeadsConfig::RetinaNet(head) => {
                let neck = FpnConfig::new(finer.to_vec())
                    .with_channels_out(head.pyramid_channels)
                    .with_coarser_levels(CoarserLevels::OnInput);
                Detector {
                    backbone: self.backbone.init(device),
                    neck: neck.init(device),
                    heads: DetectorHeads::RetinaNet(head.init(self.num_classes, device)),
                }
            }
        }
    }
}

impl Detector {
    /// The losses of a batch.
    ///
    /// # Shapes
    /// - x: `[batch, 3, height, width]`, sides that the stride of C5 divides
    /// - truths: `[batch]`
    pub fn forward_train(&self, x: Tensor<4>, truths: &[GroundTruth]) -> DetectionLosses {
        let levels = self.levels(x);
        let parts = match &self.heads {
            DetectorHeads::RetinaNet(head) => {
                let losses = head.losses(&head.forward(&levels), truths);
                vec![("loss_cls", sum(losses.loss_cls)), ("loss_bbox", sum(losses.loss_bbox))]
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
            },
        }
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        match &self.heads {
            DetectorHeads::RetinaNet(head) => head.num_classes(),
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
