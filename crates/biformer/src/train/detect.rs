//! Detection, with masks or without: what is read, how it is changed, what is learnt from it.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::engine::{Event, Run};
use super::initial_weights::{load_options, tell_begun, tell_loaded};
use super::objective::{Counts, Loss, Objective, Validation};
use super::processes::hash;
use super::{Recipe, Scores, Task};
use crate::classification::read_weights;
use crate::data::detection::{
    AnnotatedPicture, DetectionFolder, DetectionSample, DetectionSet, DetectionTransform,
    PreparedPicture, ResizePad,
};
use crate::data::{DataLoader, Example, Loaded, Shard};
use crate::detection::{
    AveragePrecision, Detector, DetectorInfo, GroundTruth, Inference, IouType, batch_tensors,
    evaluate, holds_detector, load_detector, save_detector,
};
use crate::layers::freeze_statistics;
use crate::{Error, Result};

/// The pictures of a run that learns what is where.
pub(crate) struct Detection {
    train: DataLoader<AnnotatedPicture>,
    val: DataLoader<AnnotatedPicture>,
    transform: DetectionTransform,
    info: DetectorInfo,
}

impl Objective for Detection {
    type Model = Detector;
    type Sample = DetectionSample;
    type Batch = (Tensor<4>, Vec<GroundTruth>);

    /// Training pictures in which nothing is marked are left out, as the official models do.
    fn open(recipe: &Recipe, shard: Shard) -> Result<Self> {
        let root: &PathBuf = recipe.data.as_ref().ok_or_else(|| {
            Error::option(
                "data",
                "name the folder of the data set, in the layout of COCO or with a `dataset.toml`",
            )
        })?;
        let set = DetectionSet::find(root, recipe.dataset.as_deref().map(Path::new))?;
        let open = match recipe.task {
            Task::Instance => DetectionFolder::open,
            _ => DetectionFolder::open_boxes,
        };
        let (mut train, val) = (open(root, &set, "train")?, open(root, &set, "val")?);
        train.check_same_categories(&val)?;
        train.keep_marked();
        // Not after hours of training: nothing to learn, and nothing to be judged by.
        if train.samples.is_empty() {
            return Err(Error::dataset(&train.annotations, "has nothing marked to learn from"));
        }
        if !val.samples.iter().flat_map(|sample| &sample.instances).any(|thing| !thing.is_crowd) {
            return Err(Error::dataset(&val.annotations, "has nothing marked to be judged by"));
        }
        let Recipe { batch_size, seed, .. } = *recipe;
        let classes = train.class_names();
        let loader =
            |samples, batch_size| DataLoader { shard, ..DataLoader::new(samples, batch_size) };
        Ok(Self {
            train: DataLoader { shuffle: true, seed, ..loader(train.samples, batch_size) },
            val: loader(val.samples, 1),
            transform: recipe.detection_transform(),
            info: DetectorInfo {
                model: recipe.model.clone(),
                method: recipe.method.clone(),
                classes,
                resize: ResizePad {
                    size_divisor: recipe.size_divisor,
                    ..ResizePad::new(recipe.img_scale)
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
        let names = |loader: &DataLoader<AnnotatedPicture>| -> Vec<_> {
            let samples = loader.samples.iter();
            let named = samples.map(|sample| (sample.path().file_name(), sample.instances.len()));
            named.map(|(name, things)| (name.map(ToOwned::to_owned), things)).collect()
        };
        hash(&(names(&self.train), names(&self.val), &self.info.classes))
    }

    /// Begins with the weights of a detector, of a classifier, or with fresh ones.
    fn model(
        &self,
        recipe: &Recipe,
        device: &Device,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Detector> {
        let model = self.initial_model(recipe, device, observe)?;
        Ok(if recipe.norm_eval { freeze_statistics(model) } else { model })
    }

    fn batches(&self, _: &Recipe) -> usize {
        self.train.batches()
    }

    fn load(
        &self,
        _: &Recipe,
        epoch: usize,
        first: usize,
    ) -> impl Iterator<Item = Loaded<DetectionSample>> {
        let transform = self.transform.clone();
        self.train
            .clone()
            .load(epoch, first, move |sample, image, rng| Ok(transform.apply(sample, image, rng)))
    }

    /// Nothing is marked in the black picture.
    fn batch(
        &self,
        loaded: Loaded<DetectionSample>,
        recipe: &Recipe,
        _: (usize, usize),
        device: &Device,
    ) -> Self::Batch {
        let mut samples = loaded.samples;
        if samples.is_empty() {
            samples.push(black_picture(recipe.size_divisor as usize));
        }
        batch_tensors(&samples, device)
    }

    fn loss(model: &Detector, (images, truths): Self::Batch) -> Loss {
        Loss { loss: model.forward_train(images, &truths).loss, hits: 0.0 }
    }

    fn validate(
        run: &Run<'_, Self>,
        model: Detector,
        _: f64,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Validation>> {
        let Self { val, info, .. } = &run.objective;
        let (mut images, of) = (0, val.samples.len());
        let (model, device) = (model.for_inference(), run.device.clone().inner());
        let inference = Inference::new(info.resize);
        let mut masks = AveragePrecision::new(info.classes.len(), IouType::Segm);
        let found = evaluate(&model, val.clone(), &inference, &device, |batch| {
            images += batch.of;
            if run.recipe.task == Task::Instance {
                batch.pictures.iter().for_each(|picture| picture.add_to(&mut masks));
            }
            observe(Event::Validated { images, of });
            run.unless_stopped()
        })?;
        let Some(boxes) = found else { return Ok(None) };
        let boxes = boxes.over(run.world).scores();
        let (val_bbox_map, val_bbox_map_50, val_bbox_map_75) =
            (boxes.ap(), boxes.ap50(), boxes.ap75());
        let scores = if run.recipe.task == Task::Instance {
            let masks = masks.over(run.world).scores();
            Scores::Instances {
                val_bbox_map,
                val_bbox_map_50,
                val_bbox_map_75,
                val_segm_map: masks.ap(),
                val_segm_map_50: masks.ap50(),
                val_segm_map_75: masks.ap75(),
            }
        } else {
            Scores::Detection { val_bbox_map, val_bbox_map_50, val_bbox_map_75 }
        };
        Ok(Some(Validation { scores, images, skipped: 0 }))
    }

    fn save(&self, path: &Path, model: &Detector) -> Result<()> {
        save_detector(path, model, &self.info)
    }
}

impl Detection {
    fn initial_model(
        &self,
        recipe: &Recipe,
        device: &Device,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Detector> {
        let classes = self.info.classes.len();
        let config = recipe.detector_config(classes)?;
        let Some(path) = &recipe.initial_checkpoint else {
            return Ok(config.init(device));
        };
        let (weights, _) = read_weights(path, None)?;
        if !holds_detector(&weights) {
            let Detector { backbone, neck, heads } = config.init(device);
            let begun = backbone.with_classifier_weights(weights);
            let backbone = tell_begun(begun, path, &recipe.model, observe)?;
            return Ok(Detector { backbone, neck, heads });
        }
        let loaded = load_detector(path, &load_options(recipe, classes), device)?;
        let heads = [&loaded.config, &config].map(|config| &config.heads);
        tell_loaded(path, heads, loaded.replaced_head, classes, observe)?;
        Ok(loaded.model)
    }
}

/// A square without anything in it.
fn black_picture(side: usize) -> DetectionSample {
    let sides = [side; 2];
    DetectionSample {
        picture: PreparedPicture {
            pixels: vec![0.0; 3 * side * side],
            padded: sides,
            size: sides,
            original: sides,
            scale: [1.0; 2],
            flipped: false,
        },
        boxes: Vec::new(),
        labels: Vec::new(),
        masks: Vec::new(),
        ignored: Vec::new(),
        seed: 0,
    }
}
