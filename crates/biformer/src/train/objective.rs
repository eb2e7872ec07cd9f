//! What the engine trains, and all that it need not know of it: the model, its pictures, its loss, its scores.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::engine::{Event, Run};
use super::{Recipe, Scores};
use crate::Result;
use crate::data::{Loaded, Shard};

/// One kind of learning, with the pictures of a run.
pub(crate) trait Objective: Sized {
    /// What learns.
    type Model: Module;
    /// What a thread of the loader makes of a picture.
    type Sample: Send + 'static;
    /// Training pictures and their truth on the device.
    type Batch;

    /// What `shard` sees of the pictures that the recipe names.
    fn open(recipe: &Recipe, shard: Shard) -> Result<Self>;

    /// How much there is.
    fn counts(&self) -> Counts;

    /// A hash of the names of pictures and classes, which must be the same in all processes.
    fn fingerprint(&self) -> u64;

    /// The model before its first step.
    fn model(
        &self,
        recipe: &Recipe,
        device: &Device,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self::Model>;

    /// Batches between two validations.
    fn batches(&self, recipe: &Recipe) -> usize;

    /// The batches of `epoch` from number `first` on, at least as many as [`batches`](Self::batches) says.
    fn load(
        &self,
        recipe: &Recipe,
        epoch: usize,
        first: usize,
    ) -> impl Iterator<Item = Loaded<Self::Sample>>;

    /// Batch `number` of `epoch`, both counted from 0. Without a picture in it there is a black one that
    /// adds nothing to the loss.
    fn batch(
        &self,
        loaded: Loaded<Self::Sample>,
        recipe: &Recipe,
        place: (usize, usize),
        device: &Device,
    ) -> Self::Batch;

    /// A forward pass.
    fn loss(model: &Self::Model, batch: Self::Batch) -> Loss;

    /// The scores of `model` on the validation pictures of all processes, or `None` if it was asked to
    /// stop.
    fn validate(
        run: &Run<'_, Self>,
        model: Self::Model,
        train_accuracy: f64,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Validation>>;

    /// Writes the model with all that is needed to use it.
    fn save(&self, path: &Path, model: &Self::Model) -> Result<()>;
}

/// How much a run has to learn from.
pub(crate) struct Counts {
    pub train_images: usize,
    pub val_images: usize,
    pub classes: usize,
}

/// What a forward pass found.
pub(crate) struct Loss {
    /// Mean over the pictures, `[1]`.
    pub loss: Tensor<1>,
    /// Pictures that are right; shares of pictures, where each pixel may be. 0 of tasks without an accuracy.
    pub hits: f64,
}

/// What a validation found.
pub(crate) struct Validation {
    pub scores: Scores,
    /// Pictures seen.
    pub images: usize,
    /// Pictures left out because they cannot be decoded.
    pub skipped: usize,
}
