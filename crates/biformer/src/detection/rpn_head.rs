//! The head of region proposals (Ren et al., *Faster R-CNN*, NeurIPS 2015, §3.1; mmdetection's `RPNHead`): for
//! each anchor, whether it holds anything, and where the box of that is.

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::anchors::AnchorGenerator;
use crate::layers::{convolve, normal_conv};

/// Configuration of [`RpnHead`].
#[derive(Config, Debug, PartialEq)]
pub struct RpnHeadConfig {
    /// Channels of the pyramid and of the head.
    #[config(default = 256)]
    pub channels: usize,
}

/// One convolution and ReLU, then a score and deltas of each anchor; the same for every level.
#[derive(Module, Debug)]
pub struct RpnHead {
    /// 3 × 3
    pub rpn_conv: Conv2d,
    /// 1 × 1, a logit for each anchor of a token.
    pub rpn_cls: Conv2d,
    /// 1 × 1, four deltas for each anchor of a token.
    pub rpn_reg: Conv2d,
    /// What the outputs are relative to.
    #[module(skip)]
    pub anchors: AnchorGenerator,
}

/// What the head says of each anchor of each level, finest first.
#[derive(Clone, Debug)]
pub struct RpnOutput {
    /// Logits, `[batch, height, width, per_token]`.
    pub logits: Vec<Tensor<4>>,
    /// Boxes as [`Deltas`](super::Deltas), `[batch, height, width, per_token · 4]`.
    pub deltas: Vec<Tensor<4>>,
}

impl RpnHeadConfig {
    /// The head with fresh weights.
    pub fn init(&self, device: &Device) -> RpnHead {
        let channels = self.channels;
        let anchors = AnchorGenerator::rpn();
        let per_token = anchors.per_token();
        RpnHead {
            rpn_conv: normal_conv([channels; 2], 3, 0.0, device),
            rpn_cls: normal_conv([channels, per_token], 1, 0.0, device),
            rpn_reg: normal_conv([channels, 4 * per_token], 1, 0.0, device),
            anchors,
        }
    }
}

impl RpnHead {
    /// # Shapes
    /// - levels: P2–P6, `[batch, height, width, channels]`
    pub fn forward(&self, levels: &[Tensor<4>]) -> RpnOutput {
        let of_level = |level: &Tensor<4>| {
            let x = relu(convolve(&self.rpn_conv, level.clone()));
            (convolve(&self.rpn_cls, x.clone()), convolve(&self.rpn_reg, x))
        };
        let (logits, deltas) = levels.iter().map(of_level).unzip();
        RpnOutput { logits, deltas }
    }
}

impl RpnOutput {
    /// `[height, width]` of each level, in tokens.
    pub(super) fn sizes(&self) -> Vec<[usize; 2]> {
        let size = |level: &Tensor<4>| {
            let [_, height, width, _] = level.dims();
            [height, width]
        };
        self.logits.iter().map(size).collect()
    }
}
