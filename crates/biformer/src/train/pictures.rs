//! The pictures of a run: what is read, how it is changed, how it is mixed.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::Recipe;
use crate::classification::{ClassifierInfo, TokenTargets, images_tensor};
use crate::data::{
    Batch, DataLoader, EvalTransform, ImageFolder, LabelMaps, Mix, MixToken, Picture, Sample,
    Shard, Split, TrainTransform, Transform, mix_pictures, mixup_rng, soft_targets, split_folder,
    token_label_targets,
};
use crate::distributed::World;
use crate::layers::BatchPart;
use crate::{Error, Result};

/// The pictures of a run.
pub(super) struct Pictures {
    pub train: DataLoader,
    pub val: DataLoader,
    train_transform: TrainTransform,
    label_maps: Option<LabelMaps>,
    pub info: ClassifierInfo,
}

/// A training batch on the device.
pub(super) struct TrainBatch {
    /// `[batch, 3, img_size, img_size]`
    pub images: Tensor<4>,
    /// `[batch, num_classes]`
    pub targets: Tensor<2>,
    /// With token labeling.
    pub tokens: Option<TokenTargets>,
}

impl Pictures {
    /// Steps of the optimizer in an epoch.
    pub fn steps(&self, recipe: &Recipe) -> usize {
        self.train.batches().div_ceil(recipe.grad_accum_steps)
    }

    /// What `shard` sees of the pictures that the recipe names.
    pub fn open(recipe: &Recipe, shard: Shard) -> Result<Self> {
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

    /// What is done to each training picture, and with it to its label map.
    pub fn transform(&self, recipe: &Recipe) -> Box<Transform> {
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

    /// What layers must know of a training batch that `world` shares, of `readable` pictures in
    /// all; `None` in one process alone.
    pub fn part(
        &self,
        batch: &Batch,
        recipe: &Recipe,
        readable: usize,
        world: &World,
    ) -> Option<BatchPart> {
        let sync_bn = world.reducer()?;
        let sync_bn = recipe.sync_bn.then_some(sync_bn);
        Some(match batch.labels.len() {
            0 => BatchPart { places: vec![0], of: 1, readable, is_empty: true, sync_bn },
            _ => {
                let (places, of) = self.places(batch);
                BatchPart { places, of, readable, is_empty: false, sync_bn }
            }
        })
    }

    /// The places of the pictures in the whole batch, and how many that has. A picture that could not
    /// be read leaves no gap: the others move up, as if all shards lacked as many.
    fn places(&self, batch: &Batch) -> (Vec<usize>, usize) {
        let of = match batch.skipped.len() {
            0 => batch.of,
            _ => batch.labels.len() * self.train.shard.size,
        };
        (self.train.shard.places(of), of)
    }

    /// A training batch, mixed as the recipe says for batch `number` of `epoch`, both counted from 0.
    /// λ and boxes are drawn for the whole batch of all shards. Without a picture there is a black one
    /// with targets of 0, which add nothing to the loss.
    pub fn mixed(
        &self,
        mut batch: Batch,
        recipe: &Recipe,
        (epoch, number): (usize, usize),
        device: &Device,
    ) -> TrainBatch {
        let (size, classes) = ([recipe.img_size; 2], self.info.classes.len());
        if batch.labels.is_empty() {
            batch.pixels = vec![0.0; 3 * size[0] * size[1]];
            batch.token_targets = vec![0.0; self.token_numbers(recipe)];
            return self.on_device(batch, vec![0.0; classes], None, recipe, device);
        }
        let rng = || mixup_rng(recipe.seed, epoch, number);
        let mixes: Vec<Mix> = recipe.mixup_in(epoch).map_or_else(Vec::new, |mixup| {
            let (places, of) = self.places(&batch);
            let all = mixup.draw(of, size, &mut rng());
            places.into_iter().map(|place| all[place].clone()).collect()
        });
        mix_pictures(&mut batch.pixels, &mixes, size);
        let targets = soft_targets(&batch.labels, classes, recipe.smoothing, &mixes, size);
        let mix_token = recipe.mix_token.then(|| MixToken::draw(recipe.token_grid(), &mut rng()));
        self.on_device(batch, targets, mix_token, recipe, device)
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

/// The label maps of the recipe, one for each training picture that can be decoded.
fn open_label_maps(recipe: &Recipe, root: &Path, train: &ImageFolder) -> Result<LabelMaps> {
    let folder = recipe.token_label_data.as_ref().ok_or_else(|| {
        let reason = "name the folder of the label maps; `biformer label-maps` makes them";
        Error::option("token_label_data", reason)
    })?;
    let maps = LabelMaps::open(folder, root, &train.classes)?;
    let lacks = |(picture, _): &&(Picture, usize)| !maps.path(picture.path()).exists();
    let missing: Vec<_> = train.samples.par_iter().filter(lacks).collect();
    // What cannot be decoded has no map, and will be left out.
    if let Some((first, _)) = missing.iter().find(|(picture, _)| picture.decode().is_ok()) {
        let reason = format!(
            "lacks the label maps of {} of {} pictures, such as `{}`; run `biformer label-maps` \
             again, it makes what is missing",
            missing.len(),
            train.samples.len(),
            first.path().display()
        );
        return Err(Error::dataset(folder, reason));
    }
    Ok(maps)
}

/// What is said of the pictures and of their tokens, from what a batch has.
///
/// # Shapes
/// - token_targets: `[count, 1 + tokens, num_classes]`
/// - outputs: `[count, num_classes]`, `[count, tokens, num_classes]`
fn split_targets(token_targets: &[f32], count: usize, num_classes: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut pictures, mut tokens) = (Vec::new(), Vec::with_capacity(token_targets.len()));
    for of_picture in token_targets.chunks(token_targets.len() / count) {
        let (picture, of_tokens) = of_picture.split_at(num_classes);
        pictures.extend_from_slice(picture);
        tokens.extend_from_slice(of_tokens);
    }
    (pictures, tokens)
}
