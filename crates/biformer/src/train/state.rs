//! What changes from step to step: weights, moments, averages, progress.

use std::ops::ControlFlow;
use std::path::Path;

use biformer_ops::autocast;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use super::engine::{Event, Run, report_skipped};
use super::objective::{Loss, Objective};
use super::processes::{average_statistics, part, sum_gradients};
use super::{
    AdamW, Checkpoint, EpochMetrics, LayerDecay, ModelEma, NamedGradients, Outcome, Progress,
    Recipe, ema_decay,
};
use crate::data::Loaded;
use crate::layers::with_batch_part;
use crate::models::BackboneConfig;
use crate::weights::{KeyStyle, load_state_dict, state_dict};
use crate::{Error, Precision, Result};

/// A run between two steps.
pub(crate) struct State<T: Objective> {
    pub(super) model: T::Model,
    optimizer: AdamW,
    ema: Option<ModelEma<T::Model>>,
    pub(super) progress: Progress,
    style: KeyStyle,
}

impl<T: Objective> State<T> {
    pub(super) fn start(
        run: &Run<'_, T>,
        resume: bool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self> {
        let Run { folder, recipe, objective, device, .. } = run;
        let backbone = BackboneConfig::from_name(&recipe.model)?;
        device.seed(recipe.seed);
        let model = objective.model(recipe, device, observe)?;
        let mut state = Self::new(model, recipe, &backbone);
        if resume && folder.checkpoint().exists() {
            state = state.resume(&folder.checkpoint(), device)?;
            let Progress { epoch, step, .. } = state.progress;
            observe(Event::Resumed { epoch, step });
        }
        Ok(state)
    }

    /// Before the first step; `backbone` is that of the model.
    pub(crate) fn new(model: T::Model, recipe: &Recipe, backbone: &BackboneConfig) -> Self {
        draw_weights(&model);
        let style = backbone.key_style();
        let layers = LayerDecay { decay: recipe.layer_decay, depths: backbone.depths() };
        let layers = (layers.decay < 1.0).then_some(layers);
        let optimizer = AdamW::new(&recipe.optimizer(), style).with_layer_decay(layers);
        let ema = recipe.model_ema.then(|| ModelEma::new(model.valid(), style));
        Self { model, optimizer, ema, progress: Progress::default(), style }
    }

    fn resume(mut self, path: &Path, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::read(path)?;
        let mismatch = |mismatch| Error::checkpoint(path, mismatch);
        self.model = load_state_dict(self.model, checkpoint.model, self.style).map_err(mismatch)?;
        if let Some(ema) = &mut self.ema {
            let average = load_state_dict(ema.module.clone(), checkpoint.ema, self.style);
            ema.module = average.map_err(mismatch)?;
        }
        self.optimizer
            .load_state_dict(checkpoint.optimizer, &device.clone().inner())
            .map_err(|reason| Error::checkpoint(path, reason))?;
        self.progress = checkpoint.progress;
        Ok(self)
    }

    /// The model to evaluate and to save: the average, if there is one.
    pub(super) fn averaged(&self) -> T::Model {
        self.ema.as_ref().map_or_else(|| self.model.valid(), |ema| ema.module.clone())
    }

    /// Saves the weights of the epoch, and moves on to the next.
    pub(super) fn finish_epoch(&mut self, run: &Run<'_, T>, epoch: &EpochMetrics) -> Result<()> {
        let (best, score) = (self.progress.best_score, epoch.score());
        if run.world.is_first() {
            let model = self.averaged();
            run.objective.save(&run.folder.last(), &model)?;
            // Before the checkpoint: a run killed between the two repeats the epoch and writes it again.
            // Of a resumed run, `best` has been through JSON, which may have moved its last bit.
            if best.is_none_or(|best| score > best + 1e-9) {
                run.objective.save(&run.folder.best(), &model)?;
            }
        }
        self.progress = Progress {
            epoch: epoch.epoch,
            updates: self.progress.updates,
            best_score: Some(best.map_or(score, |best| best.max(score))),
            seconds: epoch.seconds,
            ..Progress::default()
        };
        Ok(())
    }

    /// Saves where the run stands.
    pub(super) fn interrupt(mut self, run: &Run<'_, T>, seconds: f64) -> Result<Outcome> {
        self.progress.seconds = seconds;
        if run.world.is_first() {
            self.checkpoint().write(&run.folder.checkpoint())?;
        }
        let Progress { epoch, step, .. } = self.progress;
        Ok(Outcome::Interrupted { epoch, step })
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let ema = self.ema.as_ref().map(|ema| state_dict(&ema.module, self.style));
        Checkpoint {
            progress: self.progress,
            model: state_dict(&self.model.valid(), self.style),
            ema: ema.unwrap_or_default(),
            optimizer: self.optimizer.state_dict(),
        }
    }

    /// One step of the optimizer, over as many batches as the recipe says. If it is asked to stop
    /// between two of them, nothing has changed: the step is taken again on resume.
    pub(super) fn update(
        &mut self,
        run: &Run<'_, T>,
        batches: &mut impl Iterator<Item = Loaded<T::Sample>>,
        lr: f64,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<ControlFlow<()>> {
        let Run { world, recipe, objective, device, .. } = run;
        let (before, mut progress) = (self.model.valid(), self.progress);
        let mut gradients = NamedGradients::default();
        let (mut images, mut own_images) = (0, 0);
        let first = recipe.grad_accum_steps * progress.step;
        for (number, batch) in (first..).zip(batches.take(recipe.grad_accum_steps)) {
            if number > first && run.is_stopped() {
                self.model = before.train(); // forward passes have moved running statistics
                return Ok(ControlFlow::Break(()));
            }
            report_skipped(&batch.skipped, observe);
            let own = batch.samples.len();
            let [count, skipped] = world.count([own, batch.skipped.len()]);
            progress.skipped += skipped;
            if count == 0 {
                continue;
            }
            // Each batch has its own seed, so that a resumed run draws the same numbers.
            let seed = 1 + progress.epoch * objective.batches(recipe) + number;
            device.seed(recipe.seed ^ seed as u64);
            let place = (progress.epoch, number);
            let part = part(&batch, recipe, count, world);
            let batch = objective.batch(batch, recipe, place, device);
            let share = own as f64 / count as f64; // gradients are summed over processes
            let (loss, hits, found) =
                with_batch_part(part, || self.backward(batch, share, recipe.precision()));
            let hits = if own > 0 { hits } else { 0.0 }; // the black picture is none
            let [loss_sum, hits] = world.sum([f64::from(loss) * own as f64, hits]);
            if !loss_sum.is_finite() {
                return Err(self.diverged("loss", loss_sum / count as f64, lr, run));
            }
            (images, own_images) = (images + count, own_images + own);
            gradients.average_in(found, count as f64 / images as f64);
            progress.images += count;
            progress.loss_sum += loss_sum;
            progress.hits += hits;
        }
        if images > 0 {
            if world.size() > 1 {
                sum_gradients(&mut gradients, world);
                if !recipe.sync_bn {
                    let share = own_images as f64 / images as f64;
                    self.model = average_statistics(&self.model, self.style, share, world);
                }
            }
            let norm = self.apply(gradients, recipe, lr);
            if !norm.is_finite() {
                return Err(self.diverged("norm of the gradients", norm, lr, run));
            }
        }
        progress.step += 1;
        progress.updates = self.progress.updates + usize::from(images > 0);
        self.progress = progress;
        Ok(ControlFlow::Continue(()))
    }

    /// Forward and backward pass; loss, hits and `share` of the gradients.
    fn backward(
        &self,
        batch: T::Batch,
        share: f64,
        precision: Precision,
    ) -> (f32, f64, NamedGradients) {
        let Loss { loss, hits } = autocast(precision, || T::loss(&self.model, batch));
        let value = loss.clone().into_scalar();
        // Before the backward pass: synchronised batch norms add up over processes within it.
        let gradients = NamedGradients::collect(&self.model, (loss * share).backward(), self.style);
        (value, hits, gradients)
    }

    /// Clipping, AdamW, average; the norm of the gradients if they are to be clipped, else 0.
    fn apply(&mut self, mut gradients: NamedGradients, recipe: &Recipe, lr: f64) -> f64 {
        let norm = match recipe.clip_grad {
            0.0 => 0.0,
            max_norm => gradients.clip_norm(max_norm),
        };
        self.model = self.optimizer.step(lr, self.model.clone(), gradients);
        if let Some(ema) = &mut self.ema {
            let Recipe { model_ema_decay, model_ema_warmup, .. } = *recipe;
            let decay = ema_decay(model_ema_decay, model_ema_warmup, self.progress.updates);
            ema.update(&self.model.valid(), decay);
        }
        norm
    }

    /// A whole step with a batch that is on the device.
    pub(crate) fn step(&mut self, batch: T::Batch, recipe: &Recipe, lr: f64) {
        let (_, _, gradients) = self.backward(batch, 1.0, recipe.precision());
        self.apply(gradients, recipe, lr);
    }

    /// The error for a number that is none any more, with what can be done.
    pub(super) fn diverged(&self, what: &str, value: f64, lr: f64, run: &Run<'_, T>) -> Error {
        let Progress { epoch, step, .. } = self.progress;
        let checkpoint = run.folder.checkpoint();
        let kept = match checkpoint.exists() {
            true => format!("the last good checkpoint is `{}`", checkpoint.display()),
            false => "there is no checkpoint yet".to_owned(),
        };
        Error::Training(format!(
            "the {what} is {value} in epoch {} at step {}, learning rate {lr:.2e}; {kept}; lower the \
             learning rate, warm up longer or clip gradients, in a new run",
            epoch + 1,
            step + 1
        ))
    }
}

/// Burn draws weights when they are first used. Drawing them now, in the order of the module,
/// makes them a function of the seed alone.
fn draw_weights<M: Module>(model: &M) {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let _ = param.val();
        }
    }
    model.visit(&mut Draw);
}
