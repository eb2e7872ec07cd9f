//! Classification: what is read, how it is changed and mixed, what is learnt from it.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};

use super::engine::{Event, Run, report_skipped};
use super::label_maps::{open_label_maps, split_targets};
use super::objective::{Counts, Loss, Objective, Validation};
use super::processes::{hash, places};
use super::{Recipe, Scores};
use crate::classification::{
    Accuracy, ClassifierInfo, ImageClassifier, ImageClassifierConfig, LoadOptions, TokenParts,
    TokenTargets, evaluate, images_tensor, load_classifier, save_classifier,
    soft_target_cross_entropy, token_label_loss,
};
use crate::data::{
    Batch, DataLoader, EvalTransform, ImageFolder, LabelMaps, Loaded, Mix, MixToken, Sample, Shard,
    Split, TrainTransform, Transform, mix_pictures, mixup_rng, soft_targets, split_folder,
    token_label_targets,
};
use crate::models::BiFormerConfig;
use crate::{Error, Result};

/// The pictures of a run that learns their classes.
pub(crate) struct Classification {
    train: DataLoader,
    val: DataLoader,
    train_transform: TrainTransform,
    label_maps: Option<LabelMaps>,
    info: ClassifierInfo,
}

/// A training batch on the device.
pub(crate) struct TrainBatch {
    /// `[batch, 3, img_size, img_size]`
    pub images: Tensor<4>,
    /// `[batch, num_classes]`
    pub targets: Tensor<2>,
    /// With token labeling.
    pub tokens: Option<TokenTargets>,
}

impl Objective for Classification {
    type Model = ImageClassifier;
    type Sample = (usize, Sample);
    type Batch = TrainBatch;

    fn open(recipe: &Recipe, shard: Shard) -> Result<Self> {
        let root: &PathBuf = recipe
            .data
            .as_ref()
            .ok_or_else(|| Error::option("data", "name the folder that holds `train` and `val`"))?;
        let train_root = split_folder(root, Split::Train)?;
        let train = ImageFolder::open(&train_root)?;
        let val = ImageFolder::open_with_classes(&split_folder(root, Split::Val)?, &train.classes)?;
        let label_maps = match recipe.token_label {
            true => Some(open_label_maps(recipe, &train_root, &train)?),
            false => None,
        };
        let Recipe { batch_size, seed, aug_repeats, .. } = *recipe;
        let loader = |samples| DataLoader { shard, ..DataLoader::new(samples, batch_size) };
        Ok(Self {
            train: DataLoader { shuffle: true, seed, aug_repeats, ..loader(train.samples) },
            val: loader(val.samples),
            train_transform: recipe.train_transform()?,
            label_maps,
            info: ClassifierInfo {
                model: recipe.model.clone(),
                classes: train.classes,
                transform: EvalTransform {
                    crop_pct: recipe.crop_pct,
                    ..EvalTransform::new(recipe.img_size)
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
        let names = |loader: &DataLoader| -> Vec<_> {
            let samples = loader.samples.iter();
            let named = samples.map(|(picture, class)| (picture.path().file_name(), *class));
            named.map(|(name, class)| (name.map(ToOwned::to_owned), class)).collect()
        };
        hash(&[names(&self.train), names(&self.val)])
    }

    fn model(
        &self,
        recipe: &Recipe,
        device: &Device,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<ImageClassifier> {
        let classes = self.info.classes.len();
        let Some(path) = &recipe.initial_checkpoint else {
            let backbone =
                BiFormerConfig::from_name(&recipe.model)?.with_drop_path_rate(recipe.drop_path);
            let TokenParts { class_blocks, aux_head } = recipe.token_parts();
            let num_classes = classes;
            let config = ImageClassifierConfig { backbone, num_classes, class_blocks, aux_head };
            return Ok(config.init(device));
        };
        let options = LoadOptions {
            model: Some(recipe.model.clone()),
            num_classes: Some(classes),
            drop_path: recipe.drop_path,
            token_parts: Some(recipe.token_parts()),
            ..LoadOptions::default()
        };
        let loaded = load_classifier(path, &options, device)?;
        if let Some(checkpoint_classes) = loaded.replaced_head {
            observe(Event::ReplacedHead { checkpoint_classes, classes });
        }
        Ok(loaded.model)
    }

    fn batches(&self, _: &Recipe) -> usize {
        self.train.batches()
    }

    fn load(
        &self,
        recipe: &Recipe,
        epoch: usize,
        first: usize,
    ) -> impl Iterator<Item = Loaded<Self::Sample>> {
        let transform = self.transform(recipe);
        self.train.clone().load(epoch, first, move |(picture, label), image, rng| {
            Ok((*label, transform(picture.path(), image, rng)?))
        })
    }

    /// Mixed as the recipe says. λ and boxes are drawn for the whole batch of all shards. The targets of
    /// the black picture are 0.
    fn batch(
        &self,
        loaded: Loaded<Self::Sample>,
        recipe: &Recipe,
        (epoch, number): (usize, usize),
        device: &Device,
    ) -> TrainBatch {
        let (size, classes) = ([recipe.img_size; 2], self.info.classes.len());
        let (places, of) = places(&loaded, self.train.shard);
        let mut batch = Batch::from(loaded);
        if batch.labels.is_empty() {
            batch.pixels = vec![0.0; 3 * size[0] * size[1]];
            batch.token_targets = vec![0.0; self.token_numbers(recipe)];
            return self.on_device(batch, vec![0.0; classes], None, recipe, device);
        }
        let rng = || mixup_rng(recipe.seed, epoch, number);
        let mixes: Vec<Mix> = recipe.mixup_in(epoch).map_or_else(Vec::new, |mixup| {
            let all = mixup.draw(of, size, &mut rng());
            places.into_iter().map(|place| all[place].clone()).collect()
        });
        mix_pictures(&mut batch.pixels, &mixes, size);
        let targets = soft_targets(&batch.labels, classes, recipe.smoothing, &mixes, size);
        let mix_token = recipe.mix_token.then(|| MixToken::draw(recipe.token_grid(), &mut rng()));
        self.on_device(batch, targets, mix_token, recipe, device)
    }

    fn loss(model: &ImageClassifier, batch: TrainBatch) -> Loss {
        let TrainBatch { images, targets, tokens } = batch;
        let (loss, logits) = match &tokens {
            Some(tokens) => token_label_loss(model, images, targets.clone(), tokens),
            None => {
                let logits = model.forward(images);
                (soft_target_cross_entropy(logits.clone(), targets.clone()), logits)
            }
        };
        let mut accuracy = Accuracy::default();
        accuracy.update_soft(logits, targets);
        Loss { loss, hits: accuracy.top1_hits as f64 }
    }

    fn validate(
        run: &Run<'_, Self>,
        model: ImageClassifier,
        train_accuracy: f64,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Validation>> {
        let Self { val, info, .. } = &run.objective;
        let (mut images, of) = (0, val.samples.len());
        let (model, device) = (model.for_inference(), run.device.clone().inner());
        let found = evaluate(&model, val.clone(), info.transform, &device, |batch| {
            report_skipped(&batch.skipped, observe);
            images += batch.of;
            observe(Event::Validated { images, of });
            run.unless_stopped()
        });
        Ok(found.map(|found| found.over(run.world)).map(|found| Validation {
            scores: Scores::Classification {
                train_top1: train_accuracy,
                val_loss: found.loss,
                val_top1: found.accuracy.top1(),
                val_top5: found.accuracy.top5(),
            },
            images: found.accuracy.images,
            skipped: found.skipped,
        }))
    }

    fn save(&self, path: &Path, model: &ImageClassifier) -> Result<()> {
        save_classifier(path, model, &self.info)
    }
}

impl Classification {
    /// What is done to each training picture, and with it to its label map.
    fn transform(&self, recipe: &Recipe) -> Box<Transform> {
        let transform = self.train_transform;
        let Some(maps) = self.label_maps.clone() else {
            return Box::new(move |_, image, rng| Ok(transform.apply(image, rng).into()));
        };
        let (grid, smoothing) = (recipe.token_grid(), recipe.smoothing);
        let classes = self.info.classes.len();
        Box::new(move |path, image, rng| {
            let (pixels, framing) = transform.apply_framed(image, rng);
            let token_targets = maps.read(path)?.targets(&framing, grid, classes, smoothing);
            Ok(Sample { pixels, token_targets })
        })
    }

    /// Numbers that token labeling has for a picture; none without it.
    fn token_numbers(&self, recipe: &Recipe) -> usize {
        let [rows, columns] = recipe.token_grid();
        let numbers = (1 + rows * columns) * self.info.classes.len();
        if self.label_maps.is_some() { numbers } else { 0 }
    }

    /// Tensors of a batch, of whose classes `targets` has the soft truth.
    fn on_device(
        &self,
        batch: Batch,
        mut targets: Vec<f32>,
        mix: Option<MixToken>,
        recipe: &Recipe,
        device: &Device,
    ) -> TrainBatch {
        let classes = self.info.classes.len();
        let count = targets.len() / classes;
        let tokens = self.label_maps.is_some().then(|| {
            let grid = recipe.token_grid();
            let lambda = mix.as_ref().map_or(1.0, |mix| mix.lambda(grid));
            let (annotator, tokens) = split_targets(&batch.token_targets, count, classes);
            targets = token_label_targets(&targets, &annotator, classes, lambda);
            let tokens = TensorData::new(tokens, [count, grid[0], grid[1], classes]);
            TokenTargets {
                targets: Tensor::from_data(tokens, device),
                mix,
                cls_weight: recipe.cls_weight,
                dense_weight: recipe.dense_weight,
            }
        });
        let images = images_tensor(batch.pixels, [recipe.img_size; 2], device);
        let targets = Tensor::from_data(TensorData::new(targets, [count, classes]), device);
        TrainBatch { images, targets, tokens }
    }
}
