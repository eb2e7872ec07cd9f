//! The head of boxes (Ren et al., NeurIPS 2015; mmdetection's `Shared2FCBBoxHead`): what a region holds, and
//! where its box is for each class that it may be.

use biformer_ops::Precision;
use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};

use super::box_coder::BoxCoder;
use super::boxes::{Xyxy, clip};
use super::detections::{Candidates, DetectOptions, Detection, finite_values};
use super::roi_extractor::RoiExtractor;
use crate::Result;
use crate::layers::Linear;

/// Configuration of [`BoxHead`].
#[derive(Config, Debug, PartialEq)]
pub struct BoxHeadConfig {
    /// Channels of the pyramid.
    #[config(default = 256)]
    pub channels_in: usize,
    /// Width of both layers.
    #[config(default = 1024)]
    pub channels: usize,
}

/// Two layers with ReLU, then logits and deltas.
#[derive(Module, Debug)]
pub struct BoxHead {
    /// From all bins of a region on.
    pub shared_fcs: Vec<Linear>,
    /// A logit for each class, the last one for background.
    pub fc_cls: Linear,
    /// Four deltas for each class.
    pub fc_reg: Linear,
}

/// What [`BoxHead::forward`] says of each region.
#[derive(Clone, Debug)]
pub struct BoxOutput {
    /// `[rois, num_classes + 1]`
    pub cls_score: Tensor<2>,
    /// `[rois, num_classes · 4]`
    pub bbox_pred: Tensor<2>,
}

impl BoxHeadConfig {
    /// The head with fresh weights: Glorot's uniform for the shared layers, N(0, 0.01²) for classes and
    /// N(0, 0.001²) for deltas, and 0 for biases.
    pub fn init(&self, num_classes: usize, device: &Device) -> BoxHead {
        let &Self { channels_in, channels } = self;
        let layer = |dim_in: usize, dim_out: usize, initializer: Initializer| {
            let mut layer = Linear::new(dim_in, dim_out, true, device);
            layer.weight =
                initializer.init_with([dim_in, dim_out], Some(dim_in), Some(dim_out), device);
            layer
        };
        let glorot = || Initializer::XavierUniform { gain: 1.0 };
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        let bins = RoiExtractor::BOXES.output_size.pow(2);
        BoxHead {
            shared_fcs: vec![
                layer(channels_in * bins, channels, glorot()),
                layer(channels, channels, glorot()),
            ],
            fc_cls: layer(channels, num_classes + 1, normal(0.01)),
            fc_reg: layer(channels, num_classes * 4, normal(0.001)),
        }
    }
}

impl BoxHead {
    /// # Shapes
    /// - x: features of regions, `[rois, 7, 7, channels_in]`
    pub fn forward(&self, x: Tensor<4>) -> BoxOutput {
        let [rois, height, width, channels] = x.dims();
        // Official weights go channel by channel.
        let x = x.permute([0, 3, 1, 2]).reshape([rois, channels * height * width]);
        let x = self.shared_fcs.iter().fold(x, |x, layer| relu(layer.forward(x)));
        BoxOutput { cls_score: self.fc_cls.forward(x.clone()), bbox_pred: self.fc_reg.forward(x) }
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in). The last layers, which have
    /// the last word, stay in float32.
    pub fn for_inference(self, precision: Precision) -> Self {
        let prepared = self.shared_fcs.into_iter().map(|layer| layer.for_inference(precision));
        Self {
            shared_fcs: prepared.collect(),
            fc_cls: self.fc_cls.for_inference(Precision::F32),
            fc_reg: self.fc_reg.for_inference(Precision::F32),
        }
    }
}

/// The detections of a picture, best first, with boxes in pixels of the resized picture as the regions are.
///
/// # Shapes
/// - output: of the regions of one picture
/// - regions: `[rois]`
/// - size: `[height, width]` of the resized picture
///
/// # Errors
/// [`Error::Option`](crate::Error::Option) if the outputs are no numbers.
///
/// # Panics
/// If there are not as many regions as outputs.
pub fn detected_boxes(
    output: BoxOutput,
    regions: &[Xyxy],
    size: [usize; 2],
    options: &DetectOptions,
) -> Result<Vec<Detection>> {
    let [rois, columns] = output.cls_score.dims();
    assert_eq!(regions.len(), rois, "got {} regions, expected {rois}", regions.len());
    let size = size.map(|side| side as f32);
    let scores = finite_values(&softmax(output.cls_score, 1))?;
    let deltas = finite_values(&output.bbox_pred)?;
    let (deltas, _) = deltas.as_chunks();
    let mut candidates = Candidates::new(*options);
    let of_region = regions.iter().zip(scores.chunks_exact(columns));
    for ((&region, scores), deltas) in of_region.zip(deltas.chunks_exact(columns - 1)) {
        for (label, (&deltas, &score)) in deltas.iter().zip(scores).enumerate() {
            let bbox = clip(BoxCoder::REGIONS.decode(region, deltas), size);
            candidates.push(bbox, score, label);
        }
    }
    Ok(candidates.into_detections())
}
