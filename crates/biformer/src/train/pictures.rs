//! The pictures of a run: what is read, how it is changed, how it is mixed.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};

use super::Recipe;
use crate::classification::{ClassifierInfo, images_tensor};
use crate::data::{
    Batch, DataLoader, EvalTransform, ImageFolder, Split, TrainTransform, mix_pictures, mixup_rng,
    soft_targets, split_folder,
};
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

    pub fn open(recipe: &Recipe) -> Result<Self> {
        let root: &PathBuf = recipe
            .data
            .as_ref()
            .ok_or_else(|| Error::option("data", "name the folder that holds `train` and `val`"))?;
        let train = ImageFolder::open(&split_folder(root, Split::Train)?)?;
        let val = ImageFolder::open_with_classes(&split_folder(root, Split::Val)?, &train.classes)?;
        let Recipe { batch_size, seed, aug_repeats, .. } = *recipe;
        let loader = |samples, shuffle, aug_repeats| DataLoader {
            samples,
            batch_size,
            shuffle,
            seed,
            aug_repeats,
        };
        Ok(Self {
            train: loader(train.samples, true, aug_repeats),
            val: loader(val.samples, false, 1),
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

    /// Pictures and soft targets of a training batch, mixed as the recipe says for batch `number` of
    /// `epoch`, both counted from 0.
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
        let (count, size) = (batch.labels.len(), [recipe.img_size; 2]);
        let mixes = recipe
            .mixup_in(epoch)
            .map(|mixup| mixup.draw(count, size, &mut mixup_rng(recipe.seed, epoch, number)));
        let mixes = mixes.unwrap_or_default();
        mix_pictures(&mut batch.pixels, &mixes, size);
        let classes = self.info.classes.len();
        let targets = soft_targets(&batch.labels, classes, recipe.smoothing, &mixes, size);
        let targets = TensorData::new(targets, [count, classes]);
        (images_tensor(batch.pixels, size, device), Tensor::from_data(targets, device))
    }
}
