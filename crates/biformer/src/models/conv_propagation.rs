//! How windows hear of each other without global attention: ViTDet's convolutional propagation block (Li et
//! al., ECCV 2022, §3).

use biformer_ops::{Precision, gelu};
use burn::module::{Initializer, Module};
use burn::tensor::{Device, Tensor};

use crate::layers::ConvNorm;

/// A residual bottleneck: x + 1 × 1 (3 × 3 (1 × 1 (x))), each with a layer norm, GELU between them.
///
/// The last norm begins at zero, so that a fresh block is the identity and may stand between blocks that
/// have learnt.
#[derive(Module, Debug)]
pub struct ConvPropagation {
    /// To half of the channels, 3 × 3, and back.
    pub convs: Vec<ConvNorm>,
}

impl ConvPropagation {
    /// The identity.
    pub fn new(channels: usize, device: &Device) -> Self {
        let half = channels / 2;
        let convs = [([channels, half], 1), ([half, half], 3), ([half, channels], 1)];
        let mut convs = convs.map(|(channels, size)| ConvNorm::new(channels, size, device));
        convs[2].norm.gamma = Initializer::Zeros.init([channels], device);
        Self { convs: convs.into() }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [reduce, convolve, restore] = [&self.convs[0], &self.convs[1], &self.convs[2]];
        let hidden = gelu(convolve.forward(gelu(reduce.forward(x.clone()))));
        x + restore.forward(hidden)
    }

    /// See [`Linear::for_inference`](crate::layers::Linear::for_inference).
    pub fn for_inference(self, precision: Precision) -> Self {
        Self { convs: self.convs.into_iter().map(|conv| conv.for_inference(precision)).collect() }
    }
}
