//! The head of a linear probe (DINOv2's `BNHead`; Oquab et al., 2023, §7.4): what one linear layer makes of the
//! maps of a backbone that was trained for something else. A head with layers of its own must beat it.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};

use super::PixelClassifier;
use crate::layers::{batch_norm, resize_bilinear};

/// Configuration of [`LinearHead`].
#[derive(Config, Debug, PartialEq)]
pub struct LinearHeadConfig {
    /// Channels of the maps C2–C5 together.
    pub channels: usize,
}

/// All maps side by side at stride 4, batch norm, classes.
#[derive(Module, Debug)]
pub struct LinearHead {
    /// Brings all channels to one scale.
    pub bn: BatchNorm,
    /// From features to logits.
    pub conv_seg: PixelClassifier,
}

impl LinearHeadConfig {
    /// The head with fresh weights.
    pub fn init(&self, num_classes: usize, device: &Device) -> LinearHead {
        LinearHead {
            bn: BatchNormConfig::new(self.channels).init(device),
            conv_seg: PixelClassifier::new(self.channels, num_classes, device),
        }
    }
}

impl LinearHead {
    /// # Shapes
    /// - maps: C2–C5, `[batch, height / 2ⁱ, width / 2ⁱ, _]`
    /// - output: logits, `[batch, num_classes, height, width]`
    pub fn forward(&self, maps: &[Tensor<4>]) -> Tensor<4> {
        let [_, height, width, _] = maps[0].dims();
        let maps = maps.iter().map(|map| resize_bilinear(map.clone(), [height, width]));
        let features = Tensor::cat(maps.collect(), 3); // [batch, height, width, channels]
        self.conv_seg.forward(batch_norm(&self.bn, features))
    }
}
