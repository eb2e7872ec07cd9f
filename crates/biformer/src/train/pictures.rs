//! The pictures of a run: what is read, how it is changed, how it is mixed.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};

use super::Recipe;
use crate::classification::{ClassifierInfo, images_tensor};
use crate::data::{
    Batch, DataLoader, EvalTransform, ImageFolder, Shard, Split, TrainTransform, mix_pictures,
    mixup_rng, soft_targets, split_folder,
};
use crate::distributed::World;
use crate::layers::BatchPart;
use crate::{Error, Result};

/// The pictures of a run.
pub(super) struct Pictures {
    pub train: DataLoader,
    pub val: DataLoader,
    pub train_transform: TrainTransform,
    pub info: ClassifierInfo,
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
        let train = ImageFolder::open(&split_folder(root, Split::Train)?)?;
        let val = ImageFolder::open_with_classes(&split_folder(root, Split::Val)?, &train.classes)?;
        let Recipe { batch_size, seed, aug_repeats, .. } = *recipe;
        let loader = |samples| DataLoader { shard, ..DataLoader::new(samples, batch_size) };
        Ok(Self {
            train: DataLoader { shuffle: true, seed, aug_repeats, ..loader(train.samples) },
            val: loader(val.samples),
            train_transform: recipe.train_transform()?,
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

    /// Pictures and soft targets of a training batch, mixed as the recipe says for batch `number` of
    /// `epoch`, both counted from 0. λ and boxes are drawn for the whole batch of all shards. Without
    /// a picture there is a black one with targets of 0, which add nothing to the loss.
    ///
    /// # Shapes
    /// - outputs: `[batch, 3, img_size, img_size]`, `[batch, num_classes]`
    pub fn mixed(
        &self,
        mut batch: Batch,
        recipe: &Recipe,
        (epoch, number): (usize, usize),
        device: &Device,
    ) -> (Tensor<4>, Tensor<2>) {
        let (size, classes) = ([recipe.img_size; 2], self.info.classes.len());
        if batch.labels.is_empty() {
            let black = Tensor::zeros([1, 3, recipe.img_size, recipe.img_size], device);
            return (black, Tensor::zeros([1, classes], device));
        }
        let mixes = recipe.mixup_in(epoch).map(|mixup| {
            let (places, of) = self.places(&batch);
            let all = mixup.draw(of, size, &mut mixup_rng(recipe.seed, epoch, number));
            places.into_iter().map(|place| all[place].clone()).collect()
        });
        let mixes: Vec<_> = mixes.unwrap_or_default();
        mix_pictures(&mut batch.pixels, &mixes, size);
        let targets = soft_targets(&batch.labels, classes, recipe.smoothing, &mixes, size);
        let targets = TensorData::new(targets, [batch.labels.len(), classes]);
        (images_tensor(batch.pixels, recipe.img_size, device), Tensor::from_data(targets, device))
    }
}
