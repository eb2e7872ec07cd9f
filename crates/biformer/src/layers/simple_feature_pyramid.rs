//! The Simple Feature Pyramid of ViTDet (Li et al., *Exploring Plain Vision Transformer Backbones for Object
//! Detection*, ECCV 2022, §3): four maps of the one that a plain backbone gives.

use biformer_ops::{Precision, gelu};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{ConvNorm, LayerNorm, TransposedConv, max_pool};

/// Configuration of [`SimpleFeaturePyramid`].
#[derive(Config, Debug)]
pub struct SimpleFeaturePyramidConfig {
    /// Channels of the map, a multiple of 4.
    pub channels_in: usize,
    /// Channels of each level.
    #[config(default = 256)]
    pub channels_out: usize,
}

/// ```text
/// stride 4    transposed convolution to 1/2 of the channels, norm, GELU, another to 1/4 ┐
/// stride 8    transposed convolution to 1/2 of the channels                             │ each then a
/// stride 16   the map itself                                                            │ 1 × 1 and a
/// stride 32   maxima of 2 × 2 tokens                                                    ┘ 3 × 3 convolution
/// ```
///
/// The last two have a layer norm each; there is no other activation and no sum of levels.
#[derive(Module, Debug)]
pub struct SimpleFeaturePyramid {
    /// The two to stride 4.
    pub to_stride_4: Vec<TransposedConv>,
    /// Between them.
    pub norm: LayerNorm,
    /// To stride 8.
    pub to_stride_8: TransposedConv,
    /// 1 × 1, one for each level.
    pub lateral_convs: Vec<ConvNorm>,
    /// 3 × 3, one for each level.
    pub fpn_convs: Vec<ConvNorm>,
}

impl SimpleFeaturePyramidConfig {
    /// The pyramid with fresh weights.
    ///
    /// # Panics
    /// If the channels that go in are no multiple of 4.
    pub fn init(&self, device: &Device) -> SimpleFeaturePyramid {
        let &Self { channels_in: channels, channels_out: out } = self;
        assert!(
            channels.is_multiple_of(4),
            "simple feature pyramid: got {channels} channels, expected a multiple of 4"
        );
        let (half, quarter) = (channels / 2, channels / 4);
        let lateral = |channels| ConvNorm::new([channels, out], 1, device);
        SimpleFeaturePyramid {
            to_stride_4: [[channels, half], [half, quarter]]
                .map(|channels| TransposedConv::new(channels, device))
                .into(),
            norm: LayerNorm::new(half, device),
            to_stride_8: TransposedConv::new([channels, half], device),
            lateral_convs: [quarter, half, channels, channels].map(lateral).into(),
            fpn_convs: (0..4).map(|_| ConvNorm::new([out, out], 3, device)).collect(),
        }
    }
}

impl SimpleFeaturePyramid {
    /// # Shapes
    /// - x: `[batch, height, width, channels_in]`, at stride 16
    /// - outputs: `[batch, height · 4, width · 4, channels_out]`, at · 2, at · 1 and at / 2, rounded up
    pub fn forward(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        let [first, second] = [&self.to_stride_4[0], &self.to_stride_4[1]];
        let stride_4 = second.forward(gelu(self.norm.forward(first.forward(x.clone()))));
        let maps = [stride_4, self.to_stride_8.forward(x.clone()), x.clone(), max_pool(x)];
        let mut convs = self.lateral_convs.iter().zip(&self.fpn_convs);
        maps.map(|map| {
            let (lateral, conv) = convs.next().expect("two convolutions for each level");
            conv.forward(lateral.forward(map))
        })
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference(self, precision: Precision) -> Self {
        let transposed = |conv: TransposedConv| conv.for_inference(precision);
        let all = |convs: Vec<ConvNorm>| {
            convs.into_iter().map(|conv| conv.for_inference(precision)).collect()
        };
        Self {
            to_stride_4: self.to_stride_4.into_iter().map(transposed).collect(),
            norm: self.norm,
            to_stride_8: transposed(self.to_stride_8),
            lateral_convs: all(self.lateral_convs),
            fpn_convs: all(self.fpn_convs),
        }
    }
}
