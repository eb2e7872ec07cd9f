//! Mask R-CNN (He et al., ICCV 2017; paper §4.2, Table 3) behind its pyramid: regions are proposed, then each is
//! classified, its box refined and its mask drawn (mmdetection's `RPNHead` and `StandardRoIHead`).

use biformer_ops::{Precision, Roi};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::sigmoid};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::box_head::{BoxHead, BoxHeadConfig, detected_boxes};
use super::box_targets::{BoxLosses, box_losses, box_targets, sample_regions};
use super::boxes::Xyxy;
use super::detections::{DetectOptions, Detection, finite_values};
use super::ground_truth::{GroundTruth, PictureSize};
use super::mask_head::{MaskHead, MaskHeadConfig};
use super::mask_targets::{mask_loss, mask_targets, masks_of};
use super::paste_masks::paste_mask;
use super::proposals::{Proposal, ProposalOptions};
use super::roi_extractor::RoiExtractor;
use super::rpn_head::{RpnHead, RpnHeadConfig};
use super::sampler::RandomSampler;
use crate::Result;
use crate::data::detection::Rle;

/// Levels that regions are cut out of, P2–P5; P6 only proposes.
const ROI_LEVELS: usize = 4;

/// Cells a side of the mask of a region.
const MASK_CELLS: usize = 2 * RoiExtractor::MASKS.output_size;

/// Probability from which on a pixel is part of a mask (`mask_thr_binary` of the official tests).
const MASK_THRESHOLD: f32 = 0.5;

/// Configuration of [`MaskRcnnHead`] and of the pyramid in front of it.
#[derive(Config, Debug, PartialEq)]
pub struct MaskRcnnConfig {
    /// Channels of each level of the pyramid, and of the heads that are convolutions.
    #[config(default = 256)]
    pub pyramid_channels: usize,
    /// Width of the head of boxes.
    #[config(default = 1024)]
    pub box_channels: usize,
    /// Convolutions of the head of masks.
    #[config(default = 4)]
    pub mask_convs: usize,
}

/// Both stages.
#[derive(Module, Debug)]
pub struct MaskRcnnHead {
    /// Where objects may be.
    pub rpn_head: RpnHead,
    /// What they are.
    pub roi_head: RoiHead,
}

/// The second stage.
#[derive(Module, Debug)]
pub struct RoiHead {
    /// Classes and boxes of regions.
    pub bbox_head: BoxHead,
    /// Masks of regions.
    pub mask_head: MaskHead,
}

/// The losses under mmdetection's names, those of proposals summed over levels. `[1]` each
#[derive(Clone, Debug)]
pub struct MaskRcnnLosses {
    /// Whether anchors hold an object.
    pub loss_rpn_cls: Tensor<1>,
    /// Deltas of anchors.
    pub loss_rpn_bbox: Tensor<1>,
    /// Classes of regions.
    pub loss_cls: Tensor<1>,
    /// Deltas of regions.
    pub loss_bbox: Tensor<1>,
    /// Masks of regions.
    pub loss_mask: Tensor<1>,
}

impl MaskRcnnConfig {
    /// The heads with fresh weights.
    pub fn init(&self, num_classes: usize, device: &Device) -> MaskRcnnHead {
        let &Self { pyramid_channels, box_channels, mask_convs } = self;
        let boxes = BoxHeadConfig { channels_in: pyramid_channels, channels: box_channels };
        let masks = MaskHeadConfig { channels: pyramid_channels, num_convs: mask_convs };
        MaskRcnnHead {
            rpn_head: RpnHeadConfig { channels: pyramid_channels }.init(device),
            roi_head: RoiHead {
                bbox_head: boxes.init(num_classes, device),
                mask_head: masks.init(num_classes, device),
            },
        }
    }
}

impl MaskRcnnHead {
    /// The losses of a batch.
    ///
    /// # Shapes
    /// - levels: P2–P6, `[batch, height, width, pyramid_channels]`
    ///
    /// # Panics
    /// If there are not as many pictures as truths, a label is no class, or an object has no mask.
    pub fn losses(&self, levels: &[Tensor<4>], truths: &[GroundTruth]) -> MaskRcnnLosses {
        let rng = |truth: &GroundTruth| StdRng::seed_from_u64(truth.seed);
        let mut rngs: Vec<StdRng> = truths.iter().map(rng).collect();
        let rpn = self.rpn_head.forward(levels);
        let of_rpn = self.rpn_head.losses(&rpn, truths, &RandomSampler::RPN, &mut rngs);
        let sizes: Vec<PictureSize> = truths.iter().map(|truth| truth.size).collect();
        let proposed = self.rpn_head.proposals(&rpn, &sizes, &ProposalOptions::TRAIN);
        // Where outputs are no numbers, the losses are none either, and tell it.
        let proposed = proposed.unwrap_or_else(|_| vec![Vec::new(); truths.len()]);

        let device = levels[0].device();
        let (mut rois, mut targets) = (Vec::new(), Vec::new());
        let (mut object_rois, mut labels, mut masks) = (Vec::new(), Vec::new(), Vec::new());
        let pictures = truths.iter().zip(proposed).zip(&mut rngs).enumerate();
        for (picture, ((truth, proposed), rng)) in pictures {
            let proposed: Vec<Xyxy> = proposed.iter().map(|proposal| proposal.bbox).collect();
            let regions = sample_regions(&proposed, &truth.boxes, &RandomSampler::REGIONS, rng);
            let roi = |xyxy| Roi { picture, xyxy };
            rois.extend(regions.iter().map(|region| roi(region.bbox)));
            targets.extend(box_targets(&regions, truth, self.num_classes()));
            let objects = regions.iter().filter_map(|region| Some((region.bbox, region.object?)));
            let objects: Vec<(Xyxy, usize)> = objects.collect();
            object_rois.extend(objects.iter().map(|&(bbox, _)| roi(bbox)));
            labels.extend(objects.iter().map(|&(_, object)| truth.labels[object]));
            if !objects.is_empty() {
                masks.push(mask_targets(&truth.masks, &objects, MASK_CELLS, &device));
            }
        }
        let levels = &levels[..ROI_LEVELS];
        let RoiHead { bbox_head, mask_head } = &self.roi_head;
        let nothing = || Tensor::zeros([1], &device);
        let of_boxes = match rois.is_empty() {
            true => BoxLosses { loss_cls: nothing(), loss_bbox: nothing() },
            false => {
                let features = RoiExtractor::BOXES.forward(levels, &rois);
                box_losses(bbox_head.forward(features), &targets)
            }
        };
        let loss_mask = match object_rois.is_empty() {
            true => nothing(),
            false => {
                let features = RoiExtractor::MASKS.forward(levels, &object_rois);
                mask_loss(mask_head.forward(features), &labels, Tensor::cat(masks, 0))
            }
        };
        MaskRcnnLosses {
            loss_rpn_cls: sum(of_rpn.loss_rpn_cls),
            loss_rpn_bbox: sum(of_rpn.loss_rpn_bbox),
            loss_cls: of_boxes.loss_cls,
            loss_bbox: of_boxes.loss_bbox,
            loss_mask,
        }
    }

    /// The detections of each picture of a batch with their masks, best first.
    ///
    /// # Shapes
    /// - levels: P2–P6, `[batch, height, width, pyramid_channels]`
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if the outputs are no numbers.
    ///
    /// # Panics
    /// If there are not as many pictures as sizes.
    pub fn detections(
        &self,
        levels: &[Tensor<4>],
        sizes: &[PictureSize],
        options: &DetectOptions,
    ) -> Result<Vec<Vec<Detection>>> {
        let rpn = self.rpn_head.forward(levels);
        let proposed = self.rpn_head.proposals(&rpn, sizes, &ProposalOptions::TEST)?;
        let levels = &levels[..ROI_LEVELS];
        let of_picture = |(picture, (proposed, size)): (usize, (Vec<Proposal>, &PictureSize))| {
            let regions: Vec<Xyxy> = proposed.iter().map(|proposal| proposal.bbox).collect();
            if regions.is_empty() {
                return Ok(Vec::new());
            }
            let features = RoiExtractor::BOXES.forward(levels, &rois(picture, &regions));
            let output = self.roi_head.bbox_head.forward(features);
            let found = detected_boxes(output, &regions, size.resized, options)?;
            self.with_masks(levels, picture, *size, found)
        };
        proposed.into_iter().zip(sizes).enumerate().map(of_picture).collect()
    }

    /// The detections of a picture in pixels of the original one, each with the mask of its class.
    fn with_masks(
        &self,
        levels: &[Tensor<4>],
        picture: usize,
        size: PictureSize,
        mut found: Vec<Detection>,
    ) -> Result<Vec<Detection>> {
        if found.is_empty() {
            return Ok(found);
        }
        let boxes: Vec<Xyxy> = found.iter().map(|found| found.bbox).collect();
        let labels: Vec<usize> = found.iter().map(|found| found.label).collect();
        let features = RoiExtractor::MASKS.forward(levels, &rois(picture, &boxes));
        let masks = sigmoid(masks_of(self.roi_head.mask_head.forward(features), &labels));
        let masks = finite_values(&masks)?;
        for (found, mask) in found.iter_mut().zip(masks.chunks_exact(MASK_CELLS * MASK_CELLS)) {
            found.bbox = size.to_original(found.bbox);
            let mask = paste_mask(mask, MASK_CELLS, found.bbox, size.original, MASK_THRESHOLD);
            found.mask = Some(Rle::encode(&mask));
        }
        Ok(found)
    }

    /// See [`BiFormer::for_inference_in`](crate::models::BiFormer::for_inference_in). Proposals, whose layers are few,
    /// stay as they are.
    pub fn for_inference(self, precision: Precision) -> Self {
        let RoiHead { bbox_head, mask_head } = self.roi_head;
        let roi_head = RoiHead {
            bbox_head: bbox_head.for_inference(precision),
            mask_head: mask_head.for_inference(precision),
        };
        Self { roi_head, ..self }
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        self.roi_head.mask_head.num_classes()
    }
}

fn rois(picture: usize, boxes: &[Xyxy]) -> Vec<Roi> {
    boxes.iter().map(|&xyxy| Roi { picture, xyxy }).collect()
}

fn sum(levels: Vec<Tensor<1>>) -> Tensor<1> {
    levels.into_iter().reduce(|sum, loss| sum + loss).expect("a level")
}
