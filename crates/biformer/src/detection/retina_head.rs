//! The head of RetinaNet (Lin et al., ICCV 2017, §4; mmdetection's `RetinaHead`): the same convolutions over every
//! level of a pyramid say of each anchor what it shows, and where.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::anchors::AnchorGenerator;
use crate::layers::{ConvModule, convolve, normal_conv};

/// Probability of every class at every anchor before training (§4.1): else background, which is nearly all,
/// would have all the say in the first steps.
const PRIOR: f64 = 0.01;

/// Configuration of [`RetinaHead`] and of the pyramid in front of it.
#[derive(Config, Debug, PartialEq)]
pub struct RetinaHeadConfig {
    /// Channels of each level of the pyramid.
    #[config(default = 256)]
    pub pyramid_channels: usize,
    /// Channels of the features of the head.
    #[config(default = 256)]
    pub channels: usize,
    /// Convolutions before the last one, for classes and for boxes each.
    #[config(default = 4)]
    pub stacked_convs: usize,
}

/// Convolutions without norms, for classes and for boxes.
#[derive(Module, Debug)]
pub struct RetinaHead {
    /// 3 × 3, each followed by a ReLU.
    pub cls_convs: Vec<ConvModule>,
    /// 3 × 3, each followed by a ReLU.
    pub reg_convs: Vec<ConvModule>,
    /// 3 × 3, from features to a logit for each anchor and class.
    pub retina_cls: Conv2d,
    /// 3 × 3, from features to deltas of each anchor.
    pub retina_reg: Conv2d,
    /// What the outputs are relative to.
    #[module(skip)]
    pub anchors: AnchorGenerator,
}

/// What a head says of each anchor of each level, finest first; the anchors of a token are next to each other.
#[derive(Clone, Debug)]
pub struct RetinaOutput {
    /// Logits, `[batch, height, width, per_token · num_classes]`.
    pub logits: Vec<Tensor<4>>,
    /// Boxes as [`Deltas`](super::Deltas), `[batch, height, width, per_token · 4]`.
    pub deltas: Vec<Tensor<4>>,
}

impl RetinaHeadConfig {
    /// The head with fresh weights.
    pub fn init(&self, num_classes: usize, device: &Device) -> RetinaHead {
        let &Self { pyramid_channels, channels, stacked_convs } = self;
        let anchors = AnchorGenerator::retinanet();
        let stack = || {
            let channels_in = |i| if i == 0 { pyramid_channels } else { channels };
            let conv = |i| ConvModule::normal([channels_in(i), channels], 3, device);
            (0..stacked_convs).map(conv).collect()
        };
        let features = if stacked_convs == 0 { pyramid_channels } else { channels };
        let last = |per_anchor: usize, bias: f64| {
            normal_conv([features, anchors.per_token() * per_anchor], 3, bias, device)
        };
        RetinaHead {
            cls_convs: stack(),
            reg_convs: stack(),
            retina_cls: last(num_classes, -((1.0 - PRIOR) / PRIOR).ln()),
            retina_reg: last(4, 0.0),
            anchors,
        }
    }
}

impl RetinaHead {
    /// # Shapes
    /// - levels: `[batch, height, width, pyramid_channels]`, finest first
    pub fn forward(&self, levels: &[Tensor<4>]) -> RetinaOutput {
        let features = |convs: &[ConvModule], level: &Tensor<4>| {
            convs.iter().fold(level.clone(), |x, conv| relu(conv.forward(x)))
        };
        let logits = |level| convolve(&self.retina_cls, features(&self.cls_convs, level));
        let deltas = |level| convolve(&self.retina_reg, features(&self.reg_convs, level));
        RetinaOutput {
            logits: levels.iter().map(logits).collect(),
            deltas: levels.iter().map(deltas).collect(),
        }
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in). The last layers, which have
    /// the last word, stay in float32.
    pub fn for_inference(self, precision: Precision) -> Self {
        let prepared = |convs: Vec<ConvModule>| {
            convs.into_iter().map(|conv| conv.for_inference(precision)).collect()
        };
        Self { cls_convs: prepared(self.cls_convs), reg_convs: prepared(self.reg_convs), ..self }
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        let [channels_out, _, _, _] = self.retina_cls.weight.lazy_shape().dims();
        channels_out / self.anchors.per_token()
    }
}

impl RetinaOutput {
    /// Height and width of each level, in tokens.
    pub fn sizes(&self) -> Vec<[usize; 2]> {
        let size = |level: &Tensor<4>| {
            let [_, height, width, _] = level.dims();
            [height, width]
        };
        self.logits.iter().map(size).collect()
    }
}
