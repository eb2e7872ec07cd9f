//! The convolutions in front of the four stages: stem (stride 4) and patch merging (stride 2).

use biformer_ops::{Precision, RegionGrid, gelu};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{
    BatchNorm, BatchNormConfig, PaddingConfig2d,
    conv::{Conv2d, Conv2dConfig},
};
use burn::tensor::{Device, Tensor};

use super::convolution::{FoldedConv, convolve};
use super::{LayerNorm, Linear, batch_norm};

/// PyTorch's own, which Swin has in all layer norms and Twins in its sub-sampling.
pub(crate) const PYTORCH_EPSILON: f64 = 1e-5;

/// How patches are embedded.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum PatchEmbedKind {
    /// Overlapping 3 × 3 convolutions of stride 2, each followed by batch norm; the stem has
    /// two of them with a GELU between (T, S, B).
    Overlapped,
    /// A 4 × 4 convolution of stride 4 then batch norm as stem; batch norm then a 2 × 2
    /// convolution of stride 2 as merging (the Swin layout, STL).
    NonOverlapped,
    /// The same with layer norm in place of batch norm, as Swin itself has it; in the merging the norm is over
    /// the channels of all four tokens, and the convolution has no bias.
    Swin,
}

/// Configuration of [`PatchEmbed`].
#[derive(Config, Debug)]
pub struct PatchEmbedConfig {
    /// Overlapping or not.
    pub kind: PatchEmbedKind,
    /// Channels in; the stem has 3.
    pub channels_in: usize,
    /// Channels out.
    pub channels_out: usize,
    /// Whether this is the stem.
    pub stem: bool,
}

/// The embedding in front of one stage.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // four of them in a model
pub enum PatchEmbed {
    /// Stem of T, S and B.
    OverlappedStem(OverlappedStem),
    /// Merging of T, S and B.
    OverlappedMerging(OverlappedMerging),
    /// Stem of the Swin layout.
    Stem(Stem),
    /// Merging of the Swin layout.
    Merging(Merging),
    /// Stem of Swin.
    SwinStem(SwinStem),
    /// Merging of Swin.
    SwinMerging(SwinMerging),
}

/// Two 3 × 3 convolutions of stride 2: stride 4 in all.
#[derive(Module, Debug)]
pub struct OverlappedStem {
    /// 3 × 3, stride 2, to half the channels.
    pub conv1: Conv2d,
    /// After the first convolution; a GELU follows.
    pub norm1: BatchNorm,
    /// 3 × 3, stride 2.
    pub conv2: Conv2d,
    /// After the second convolution.
    pub norm2: BatchNorm,
    /// Both with their norms, for inference.
    #[module(skip)]
    pub(crate) folded: Option<[FoldedConv; 2]>,
}

/// One 3 × 3 convolution of stride 2.
#[derive(Module, Debug)]
pub struct OverlappedMerging {
    /// 3 × 3, stride 2.
    pub conv: Conv2d,
    /// After the convolution.
    pub norm: BatchNorm,
    /// Both in one, for inference.
    #[module(skip)]
    pub(crate) folded: Option<FoldedConv>,
}

/// One 4 × 4 convolution of stride 4.
#[derive(Module, Debug)]
pub struct Stem {
    /// 4 × 4, stride 4.
    pub conv: Conv2d,
    /// After the convolution.
    pub norm: BatchNorm,
    /// Both in one, for inference.
    #[module(skip)]
    pub(crate) folded: Option<FoldedConv>,
}

/// Norm, then one 2 × 2 convolution of stride 2.
#[derive(Module, Debug)]
pub struct Merging {
    /// Before the convolution.
    pub norm: BatchNorm,
    /// 2 × 2, stride 2.
    pub conv: Conv2d,
    /// Both in one, for inference.
    #[module(skip)]
    pub(crate) folded: Option<FoldedConv>,
}

/// One 4 × 4 convolution of stride 4, then layer norm.
#[derive(Module, Debug)]
pub struct SwinStem {
    /// 4 × 4, stride 4.
    pub proj: Conv2d,
    /// After the convolution.
    pub norm: LayerNorm,
}

/// Four tokens side by side, layer norm over all of their channels, then a linear layer.
#[derive(Module, Debug)]
pub struct SwinMerging {
    /// Over four times the channels.
    pub norm: LayerNorm,
    /// Without bias.
    pub reduction: Linear,
}

impl PatchEmbedConfig {
    /// The embedding with fresh weights.
    pub fn init(&self, device: &Device) -> PatchEmbed {
        let &Self { channels_in, channels_out, .. } = self;
        let half = channels_out / 2;
        match (self.kind, self.stem) {
            (PatchEmbedKind::Overlapped, true) => PatchEmbed::OverlappedStem(OverlappedStem {
                conv1: overlapped_conv(channels_in, half, device),
                norm1: BatchNormConfig::new(half).init(device),
                conv2: overlapped_conv(half, channels_out, device),
                norm2: BatchNormConfig::new(channels_out).init(device),
                folded: None,
            }),
            (PatchEmbedKind::Overlapped, false) => {
                PatchEmbed::OverlappedMerging(OverlappedMerging {
                    conv: overlapped_conv(channels_in, channels_out, device),
                    norm: BatchNormConfig::new(channels_out).init(device),
                    folded: None,
                })
            }
            (PatchEmbedKind::NonOverlapped, true) => PatchEmbed::Stem(Stem {
                conv: patch_conv(channels_in, channels_out, 4, device),
                norm: BatchNormConfig::new(channels_out).init(device),
                folded: None,
            }),
            (PatchEmbedKind::NonOverlapped, false) => PatchEmbed::Merging(Merging {
                norm: BatchNormConfig::new(channels_in).init(device),
                conv: patch_conv(channels_in, channels_out, 2, device),
                folded: None,
            }),
            (PatchEmbedKind::Swin, true) => PatchEmbed::SwinStem(SwinStem {
                proj: patch_conv(channels_in, channels_out, 4, device),
                norm: LayerNorm::new(channels_out, device).with_epsilon(PYTORCH_EPSILON),
            }),
            (PatchEmbedKind::Swin, false) => PatchEmbed::SwinMerging(SwinMerging {
                norm: LayerNorm::new(4 * channels_in, device).with_epsilon(PYTORCH_EPSILON),
                reduction: Linear::new(4 * channels_in, channels_out, false, device),
            }),
        }
    }
}

impl PatchEmbed {
    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`
    /// - output: `[batch, height / stride, width / stride, channels_out]`, rounded up
    ///   (overlapped, Swin) or down
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::OverlappedStem(OverlappedStem { folded: Some([conv1, conv2]), .. }) => {
                conv2.forward(conv1.forward(x, true), false)
            }
            Self::OverlappedMerging(OverlappedMerging { folded: Some(conv), .. })
            | Self::Stem(Stem { folded: Some(conv), .. })
            | Self::Merging(Merging { folded: Some(conv), .. }) => conv.forward(x, false),
            Self::OverlappedStem(OverlappedStem { conv1, norm1, conv2, norm2, .. }) => {
                let x = gelu(batch_norm(norm1, convolve(conv1, x)));
                batch_norm(norm2, convolve(conv2, x))
            }
            Self::OverlappedMerging(OverlappedMerging { conv, norm, .. })
            | Self::Stem(Stem { conv, norm, .. }) => batch_norm(norm, convolve(conv, x)),
            Self::Merging(Merging { norm, conv, .. }) => convolve(conv, batch_norm(norm, x)),
            Self::SwinStem(SwinStem { proj, norm }) => {
                let [_, height, width, _] = x.dims();
                let patches = RegionGrid::windows(height, width, 4);
                norm.forward(convolve(proj, patches.pad(x)))
            }
            Self::SwinMerging(SwinMerging { norm, reduction }) => {
                reduction.forward(norm.forward(side_by_side(x)))
            }
        }
    }

    /// The embedding with norms folded into convolutions; see
    /// [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference(mut self, precision: Precision) -> Self {
        match &mut self {
            Self::OverlappedStem(OverlappedStem { conv1, norm1, conv2, norm2, folded }) => {
                let convs = [(conv1, norm1), (conv2, norm2)];
                *folded =
                    Some(convs.map(|(conv, norm)| FoldedConv::before_norm(conv, norm, precision)));
            }
            Self::OverlappedMerging(OverlappedMerging { conv, norm, folded })
            | Self::Stem(Stem { conv, norm, folded }) => {
                *folded = Some(FoldedConv::before_norm(conv, norm, precision));
            }
            Self::Merging(Merging { norm, conv, folded }) => {
                *folded = Some(FoldedConv::after_norm(norm, conv, precision));
            }
            Self::SwinStem(_) => {}
            Self::SwinMerging(SwinMerging { norm, reduction }) => {
                let reduction = reduction.clone().for_inference(precision);
                self = Self::SwinMerging(SwinMerging { norm: norm.clone(), reduction });
            }
        }
        self
    }
}

/// The four tokens of each cell of 2 × 2, down first as Swin has them. Zeros fill up the last cells.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, height / 2, width / 2, 4 * channels]`, rounded up
fn side_by_side(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let cells = RegionGrid::windows(height, width, 2);
    let (rows, cols) = (cells.rows, cells.cols);
    cells
        .pad(x)
        .reshape([batch, rows, 2, cols, 2, channels])
        .permute([0, 1, 3, 4, 2, 5]) // [batch, rows, cols, across, down, channels]
        .reshape([batch, rows, cols, 4 * channels])
}

fn overlapped_conv(channels_in: usize, channels_out: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([channels_in, channels_out], [3, 3])
        .with_stride([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

fn patch_conv(channels_in: usize, channels_out: usize, size: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([channels_in, channels_out], [size, size])
        .with_stride([size, size])
        .init(device)
}
