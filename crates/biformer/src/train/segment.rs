//! Semantic segmentation: what is read, how it is changed, what is learnt from it.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Int, Tensor};

use super::engine::{Event, Run};
use super::initial_weights::{load_options, tell_begun, tell_loaded};
use super::objective::{Counts, Loss, Objective, Validation};
use super::processes::hash;
use super::{Recipe, Scores};
use crate::classification::read_weights;
use crate::data::segmentation::{
    IGNORE_INDEX, LabeledPicture, SegmentationFolder, SegmentationSample, SegmentationSet,
    SegmentationTransform, TestResize,
};
use crate::data::{DataLoader, Example, Loaded, Shard};
use crate::segmentation::{
    Inference, Segmentor, SegmentorInfo, batch_tensors, evaluate, holds_segmentor, load_segmentor,
    save_segmentor, segmentation_losses,
};
use crate::{Error, Result};

/// A batch on the device.
pub(crate) struct SegmentationBatch {
    /// `[batch, 3, height, width]`
    images: Tensor<4>,
    /// `[batch, height, width]`
    labels: Tensor<3, Int>,
    /// `[num_classes]`, if classes weigh differently.
    class_weight: Option<Tensor<1>>,
}

/// The pictures of a run that learns the class of each pixel.
pub(crate) struct Segmentation {
    train: DataLoader<LabeledPicture>,
    val: DataLoader<LabeledPicture>,
    transform: SegmentationTransform,
    info: SegmentorInfo,
}

impl Objective for Segmentation {
    type Model = Segmentor;
    type Sample = SegmentationSample;
    type Batch = SegmentationBatch;

    fn open(recipe: &Recipe, shard: Shard) -> Result<Self> {
        let root: &PathBuf = recipe.data.as_ref().ok_or_else(|| {
            Error::option(
                "data",
                "name the folder of the data set; its `dataset.toml` says what it holds",
            )
        })?;
        let set = SegmentationSet::find(root, recipe.dataset.as_deref())?;
        let train = SegmentationFolder::open(root, set.clone(), "train")?;
        let val = SegmentationFolder::open(root, set, "val")?;
        let (weights, classes) = (recipe.class_weight.len(), train.set.classes.len());
        if weights != 0 && weights != classes {
            let reason =
                format!("must be one number for each of the {classes} classes, got {weights}");
            return Err(Error::option("class_weight", reason));
        }
        // Not after hours of training: labels that are no classes, and none at all.
        train.samples[0].decode()?;
        if val.count_pixels()?.iter().all(|&pixels| pixels == 0) {
            return Err(Error::dataset(root, "has no labelled pixel in its part `val`"));
        }
        let Recipe { batch_size, seed, .. } = *recipe;
        let loader =
            |samples, batch_size| DataLoader { shard, ..DataLoader::new(samples, batch_size) };
        Ok(Self {
            train: DataLoader { shuffle: true, seed, ..loader(train.samples, batch_size) },
            val: loader(val.samples, 1),
            transform: recipe.segmentation_transform(),
            info: SegmentorInfo {
                model: recipe.model.clone(),
                method: recipe.method.clone(),
                classes: train.set.classes,
                palette: train.set.palette,
                resize: TestResize {
                    img_scale: recipe.img_scale,
                    size_divisor: recipe.size_divisor,
                },
            },
        })
    }

    fn counts(&self) -> Counts {
        Counts {
            train_images: self.train.samples.len(),
            val_images: self.val.samples.len(),
            classes: self.info.classes.len(),
        }
    }

    fn fingerprint(&self) -> u64 {
        let names = |loader: &DataLoader<LabeledPicture>| -> Vec<_> {
            loader
                .samples
                .iter()
                .map(|sample| sample.path().file_name().map(ToOwned::to_owned))
                .collect()
        };
        hash(&(names(&self.train), names(&self.val), &self.info.classes))
    }

    /// Begins with the weights of a segmentor, of a classifier, or with fresh ones.
    fn model(
        &self,
        recipe: &Recipe,
        device: &Device,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Segmentor> {
        let classes = self.info.classes.len();
        let config = recipe.segmentor_config(classes)?;
        let Some(path) = &recipe.initial_checkpoint else {
            return Ok(config.init(device));
        };
        let (weights, _) = read_weights(path, None)?;
        if holds_segmentor(&weights) {
            let loaded = load_segmentor(path, &load_options(recipe, classes), device)?;
            let heads = [&loaded.config, &config].map(|config| &config.decode_head);
            tell_loaded(path, heads, loaded.replaced_head, classes, observe)?;
            return Ok(loaded.model);
        }
        let model = config.init(device);
        let begun = model.backbone.with_classifier_weights(weights);
        let backbone = tell_begun(begun, path, &recipe.model, observe)?;
        Ok(Segmentor { backbone, ..model })
    }

    fn batches(&self, recipe: &Recipe) -> usize {
        recipe.val_interval * recipe.grad_accum_steps
    }

    /// Passes over the pictures follow each other without regard to epochs.
    fn load(
        &self,
        recipe: &Recipe,
        epoch: usize,
        first: usize,
    ) -> impl Iterator<Item = Loaded<SegmentationSample>> {
        let (loader, transform) = (self.train.clone(), self.transform);
        let first = epoch * self.batches(recipe) + first;
        let (first_pass, within) = (first / loader.batches(), first % loader.batches());
        (first_pass..).flat_map(move |pass| {
            let first = if pass == first_pass { within } else { 0 };
            loader.clone().load(pass, first, move |_, (image, labels), rng| {
                Ok(transform.apply(image, labels, rng))
            })
        })
    }

    /// No pixel of the black picture counts.
    fn batch(
        &self,
        loaded: Loaded<SegmentationSample>,
        recipe: &Recipe,
        _: (usize, usize),
        device: &Device,
    ) -> Self::Batch {
        let pixels = recipe.crop_size * recipe.crop_size;
        let black = || SegmentationSample {
            pixels: vec![0.0; 3 * pixels],
            labels: vec![IGNORE_INDEX; pixels],
        };
        let mut samples = loaded.samples;
        if samples.is_empty() {
            samples.push(black());
        }
        let (images, labels) = batch_tensors(&samples, device);
        let weights = recipe.class_weight.as_slice();
        let class_weight =
            (!weights.is_empty()).then(|| Tensor::from_data(weights, (device, DType::F32)));
        SegmentationBatch { images, labels, class_weight }
    }

    fn loss(model: &Segmentor, batch: SegmentationBatch) -> Loss {
        let SegmentationBatch { images, labels, class_weight } = batch;
        let [batch, ..] = labels.dims();
        let losses = segmentation_losses(model.forward_train(images), labels, class_weight);
        let percent: f32 = losses.decode_acc_seg.into_scalar();
        Loss { loss: losses.loss, hits: f64::from(percent) / 100.0 * batch as f64 }
    }

    fn validate(
        run: &Run<'_, Self>,
        model: Segmentor,
        train_accuracy: f64,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Validation>> {
        let Self { val, info, .. } = &run.objective;
        let (mut images, of) = (0, val.samples.len());
        let (model, device) = (model.for_inference(), run.device.clone().inner());
        let forward = |x| model.forward(x);
        let inference = Inference::single_scale(info.resize);
        let classes = info.classes.len();
        let found = evaluate(&forward, val.clone(), classes, &inference, &device, |batch| {
            images += batch.of;
            observe(Event::Validated { images, of });
            run.unless_stopped()
        })?;
        Ok(found.map(|found| found.over(run.world)).map(|found| Validation {
            scores: Scores::Segmentation {
                train_acc_seg: train_accuracy,
                val_mean_iou: found.mean_iou(),
                val_mean_accuracy: found.mean_accuracy(),
                val_pixel_accuracy: found.pixel_accuracy(),
            },
            images,
            skipped: 0,
        }))
    }

    fn save(&self, path: &Path, model: &Segmentor) -> Result<()> {
        save_segmentor(path, model, &self.info)
    }
}
