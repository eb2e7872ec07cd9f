//! The head of UPerNet (Xiao et al., *Unified Perceptual Parsing*, ECCV 2018; mmsegmentation's
//! `UPerHead`): a pyramid whose coarsest level has seen the whole picture through pooling (PSPNet, Zhao et
//! al., CVPR 2017), all levels side by side at stride 4.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::PixelClassifier;
use crate::layers::{ConvModule, adaptive_avg_pool, add_top_down, resize_bilinear};

/// Configuration of [`UperHead`].
#[derive(Config, Debug, PartialEq)]
pub struct UperHeadConfig {
    /// Channels of the maps C2–C5.
    pub channels_in: [usize; 4],
    /// Channels of each level, and of the features.
    #[config(default = 512)]
    pub channels: usize,
}

/// Pooling, pyramid, fusion, classes. Every convolution has batch norm and ReLU.
#[derive(Module, Debug)]
pub struct UperHead {
    /// 1 × 1, one for each grid that C5 is pooled to.
    pub psp_modules: Vec<ConvModule>,
    /// 3 × 3, of C5 and its pooled maps.
    pub bottleneck: ConvModule,
    /// 1 × 1, of C2, C3 and C4.
    pub lateral_convs: Vec<ConvModule>,
    /// 3 × 3, of the three finer levels.
    pub fpn_convs: Vec<ConvModule>,
    /// 3 × 3, of all levels.
    pub fpn_bottleneck: ConvModule,
    /// From features to logits.
    pub conv_seg: PixelClassifier,
}

impl UperHeadConfig {
    /// The head with fresh weights.
    pub fn init(&self, num_classes: usize, device: &Device) -> UperHead {
        let &Self { channels_in: [.., c5], channels } = self;
        let conv = |channels_in, size| ConvModule::norm_relu([channels_in, channels], size, device);
        UperHead {
            psp_modules: UperHead::POOL_SCALES.map(|_| conv(c5, 1)).into(),
            bottleneck: conv(c5 + UperHead::POOL_SCALES.len() * channels, 3),
            lateral_convs: self.channels_in[..3]
                .iter()
                .map(|&channels| conv(channels, 1))
                .collect(),
            fpn_convs: (0..3).map(|_| conv(channels, 3)).collect(),
            fpn_bottleneck: conv(4 * channels, 3),
            conv_seg: PixelClassifier::new(channels, num_classes, device),
        }
    }
}

impl UperHead {
    /// Cells a side of the grids that C5 is pooled to.
    pub const POOL_SCALES: [usize; 4] = [1, 2, 3, 6];

    /// # Shapes
    /// - maps: C2–C5, `[batch, height / 2ⁱ, width / 2ⁱ, channels_in[i]]`
    /// - output: logits, `[batch, num_classes, height, width]`
    ///
    /// # Panics
    /// If there are not four maps.
    pub fn forward(&self, maps: &[Tensor<4>]) -> Tensor<4> {
        let [finer @ .., c5] = maps else { panic!("upernet: got no maps, expected 4") };
        let count = self.lateral_convs.len();
        assert_eq!(finer.len(), count, "upernet: got {} maps, expected {}", maps.len(), count + 1);
        let laterals = self.lateral_convs.iter().zip(finer);
        let mut levels: Vec<Tensor<4>> =
            laterals.map(|(conv, map)| conv.forward(map.clone())).collect();
        levels.push(self.pool(c5.clone()));
        add_top_down(&mut levels, resize_bilinear);
        // The coarsest level has had its convolution.
        for (level, conv) in levels.iter_mut().zip(&self.fpn_convs) {
            *level = conv.forward(level.clone());
        }
        let [_, height, width, _] = levels[0].dims();
        let levels = levels.into_iter().map(|level| resize_bilinear(level, [height, width]));
        let all = Tensor::cat(levels.collect(), 3); // [batch, height, width, 4 * channels]
        self.conv_seg.forward(self.fpn_bottleneck.forward(all))
    }

    /// C5 beside its means over grids of cells, and a convolution of both.
    ///
    /// # Shapes
    /// - c5: `[batch, height, width, channels_in[3]]`
    /// - output: `[batch, height, width, channels]`
    fn pool(&self, c5: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = c5.dims();
        let pooled = Self::POOL_SCALES.into_iter().zip(&self.psp_modules).map(|(cells, conv)| {
            resize_bilinear(conv.forward(adaptive_avg_pool(c5.clone(), cells)), [height, width])
        });
        let all = std::iter::once(c5.clone()).chain(pooled).collect();
        self.bottleneck.forward(Tensor::cat(all, 3)) // of [batch, height, width, c5 + 4 * channels]
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference(self, precision: Precision) -> Self {
        let one = |conv: ConvModule| conv.for_inference(precision);
        let all = |convs: Vec<ConvModule>| convs.into_iter().map(one).collect();
        Self {
            psp_modules: all(self.psp_modules),
            bottleneck: one(self.bottleneck),
            lateral_convs: all(self.lateral_convs),
            fpn_convs: all(self.fpn_convs),
            fpn_bottleneck: one(self.fpn_bottleneck),
            conv_seg: self.conv_seg,
        }
    }
}
