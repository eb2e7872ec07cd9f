//! The patch embedding of a plain ViT (timm's `PatchEmbed`).

use biformer_ops::{Precision, RegionGrid};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use super::convolution::{FoldedConv, convolve};
use super::linear::given_up;

/// Each square patch of pixels becomes a token, by one convolution whose windows do not overlap.
#[derive(Module, Debug)]
pub struct PatchProjection {
    /// A kernel as large as a patch.
    pub proj: Conv2d,
    /// The same, for inference.
    #[module(skip)]
    prepared: Option<FoldedConv>,
}

impl PatchProjection {
    /// Weights drawn as PyTorch draws those of a convolution.
    pub fn new(patch_size: usize, channels: usize, device: &Device) -> Self {
        let proj = Conv2dConfig::new([3, channels], [patch_size; 2]).with_stride([patch_size; 2]);
        Self { proj: proj.init(device), prepared: None }
    }

    /// Sides that do not divide are padded with zeros on the right and below.
    ///
    /// # Shapes
    /// - x: `[batch, height, width, 3]`
    /// - output: `[batch, height / patch_size, width / patch_size, channels]`, rounded up
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let x = RegionGrid::windows(height, width, self.proj.stride[0]).pad(x);
        match &self.prepared {
            Some(conv) => conv.forward(x, false),
            None => convolve(&self.proj, x),
        }
    }

    /// See [`Linear::for_inference`](super::Linear::for_inference).
    pub fn for_inference(mut self, precision: Precision) -> Self {
        self.prepared = Some(FoldedConv::alone(&self.proj, precision));
        self.proj.weight = given_up(&self.proj.weight);
        self
    }
}
