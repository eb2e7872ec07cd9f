//! Feature pyramid network (Lin et al., CVPR 2017), as mmdetection and mmsegmentation have it.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::ConvModule;
use super::resize::{every_second, resize_nearest};

/// Levels beyond the coarsest map of the backbone.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum CoarserLevels {
    /// As many levels as maps: Semantic FPN, P2–P5.
    None,
    /// P6, every second token of P5: Mask R-CNN, P2–P6.
    MaxPool,
    /// P6 and P7, each a 3 × 3 convolution of stride 2, the first of C5 itself: RetinaNet, P3–P7
    /// (mmdetection's `add_extra_convs="on_input"`).
    OnInput,
}

/// Configuration of [`Fpn`].
#[derive(Config, Debug)]
pub struct FpnConfig {
    /// Channels of the maps that go in, finest first.
    pub channels_in: Vec<usize>,
    /// Channels of every level.
    #[config(default = 256)]
    pub channels_out: usize,
    /// Levels beyond the coarsest map.
    #[config(default = "CoarserLevels::None")]
    pub coarser_levels: CoarserLevels,
}

/// Laterals of one width, from the coarsest down each added to the next finer one, and a
/// convolution on each sum. Neither norms nor activations.
#[derive(Module, Debug)]
pub struct Fpn {
    /// 1 × 1, one for each map.
    pub lateral_convs: Vec<ConvModule>,
    /// 3 × 3, one for each map, then those of [`CoarserLevels::OnInput`].
    pub fpn_convs: Vec<ConvModule>,
    /// What it was built from.
    #[module(skip)]
    pub config: FpnConfig,
}

impl FpnConfig {
    /// The pyramid with fresh weights.
    ///
    /// # Panics
    /// If no map goes in.
    pub fn init(&self, device: &Device) -> Fpn {
        let &Self { channels_out: out, .. } = self;
        let coarsest = *self.channels_in.last().expect("a feature pyramid needs a map");
        let lateral = |&channels: &usize| ConvModule::plain([channels, out], 1, 1, device);
        let level = |_: &usize| ConvModule::plain([out, out], 3, 1, device);
        let coarser = |channels: usize| ConvModule::plain([channels, out], 3, 2, device);
        let mut fpn_convs: Vec<ConvModule> = self.channels_in.iter().map(level).collect();
        if self.coarser_levels == CoarserLevels::OnInput {
            fpn_convs.extend([coarsest, out].map(coarser));
        }
        let lateral_convs = self.channels_in.iter().map(lateral).collect();
        Fpn { lateral_convs, fpn_convs, config: self.clone() }
    }
}

impl Fpn {
    /// # Shapes
    /// - maps: `[batch, height, width, channels_in[i]]`, finest first
    /// - outputs: `[batch, height, width, channels_out]` for each of them, then the coarser levels
    ///
    /// # Panics
    /// If there are not as many maps as laterals.
    pub fn forward(&self, maps: &[Tensor<4>]) -> Vec<Tensor<4>> {
        let count = self.lateral_convs.len();
        assert_eq!(maps.len(), count, "fpn: got {} maps, expected {count}", maps.len());
        let laterals = self.lateral_convs.iter().zip(maps);
        let mut laterals: Vec<Tensor<4>> =
            laterals.map(|(conv, map)| conv.forward(map.clone())).collect();
        add_top_down(&mut laterals, resize_nearest);
        let (convs, coarser_convs) = self.fpn_convs.split_at(count);
        let mut levels: Vec<Tensor<4>> =
            convs.iter().zip(laterals).map(|(conv, lateral)| conv.forward(lateral)).collect();
        match self.config.coarser_levels {
            CoarserLevels::None => {}
            CoarserLevels::MaxPool => levels.push(every_second(levels[count - 1].clone())),
            CoarserLevels::OnInput => {
                let mut x = maps[count - 1].clone();
                for conv in coarser_convs {
                    x = conv.forward(x);
                    levels.push(x.clone());
                }
            }
        }
        levels
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in).
    pub fn for_inference(self, precision: Precision) -> Self {
        let prepared = |convs: Vec<ConvModule>| {
            convs.into_iter().map(|conv| conv.for_inference(precision)).collect()
        };
        Self {
            lateral_convs: prepared(self.lateral_convs),
            fpn_convs: prepared(self.fpn_convs),
            ..self
        }
    }
}

/// From the coarsest down, each map resized and added to the next finer one.
pub(crate) fn add_top_down(
    maps: &mut [Tensor<4>],
    resize: impl Fn(Tensor<4>, [usize; 2]) -> Tensor<4>,
) {
    for i in (1..maps.len()).rev() {
        let [_, height, width, _] = maps[i - 1].dims();
        let coarser = resize(maps[i].clone(), [height, width]);
        maps[i - 1] = maps[i - 1].clone() + coarser;
    }
}
