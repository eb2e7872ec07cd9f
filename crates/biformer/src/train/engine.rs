//! Training: epochs of steps, a validation and a checkpoint after each.
//!
//! This is an engine of ours and not Burn's `SupervisedTraining`; ARCHITECTURE.md says why.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use biformer_ops::is_cpu;
use burn::module::Module;
use burn::tensor::Device;

use super::classify::Classification;
use super::detect::Detection;
use super::objective::{Counts, Objective, Validation};
use super::processes::agree_on_start;
use super::segment::Segmentation;
use super::state::State;
use super::tensorboard::EventLog;
use super::{EpochMetrics, Progress, Recipe, RunFolder, StepMetrics, Task};
use crate::distributed::World;
use crate::{Error, Result, check_option};

/// What a run tells while it goes on. Of several processes the first one tells it; what it could
/// not read, each tells itself.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // of the fields of the variants: their names say it
pub enum Event<'a> {
    /// Before the first step.
    Started { train_images: usize, val_images: usize, classes: usize, parameters: usize },
    /// The learning rate of the recipe was adapted to the pictures in a step.
    ScaledLr { recipe_lr: f64, lr_base_size: usize, lr: f64, images: usize },
    /// The head of the initial checkpoint had another number of classes and is fresh.
    ReplacedHead { checkpoint_classes: usize, classes: usize },
    /// A segmentor or detector begins with the weights of a classifier: so many keys that both have, that are fresh
    /// because the classifier lacks them, that only the classifier has.
    InitializedBackbone { loaded: usize, fresh: usize, left_out: usize },
    /// The run goes on after this many complete epochs and steps.
    Resumed { epoch: usize, step: usize },
    /// A picture that cannot be decoded was left out.
    Skipped { path: &'a Path, reason: &'a str },
    /// After each step.
    Step(StepMetrics),
    /// After each batch of the validation.
    Validated { images: usize, of: usize },
    /// After each epoch, once it is safely on disk.
    Epoch(&'a EpochMetrics),
}

/// How a run ended.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // of the fields of the variants: their names say it
pub enum Outcome {
    /// All epochs are done.
    Finished { metrics: Vec<EpochMetrics>, best_score: f64, seconds: f64 },
    /// It was asked to stop and can be resumed from here.
    Interrupted { epoch: usize, step: usize },
}

/// Trains as the recipe of the run says, from its checkpoint if `resume`.
///
/// When `stop` is set, the current step is finished, a checkpoint written, and
/// [`Outcome::Interrupted`] returned. A run that was interrupted or killed and resumed ends with
/// the same weights, bit for bit, as one that was not.
///
/// # Errors
/// What is wrong with data, checkpoints or disk; [`Error::Option`](crate::Error::Option) if the recipe wants
/// [`amp`](Recipe::amp) and the device has no such products; [`Error::Training`](crate::Error::Training) if the loss is no
/// number.
pub fn train(
    folder: &RunFolder,
    recipe: &Recipe,
    resume: bool,
    device: &Device,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    train_in(&World::single(), folder, recipe, resume, device, stop, observe)
}

/// [`train`] as one process of `world`, all of which make this call: each sees its part of every
/// batch, and their gradients are averaged. The first one writes the files; a run that is
/// resumed is read by all. `stop` may be set in any of them.
///
/// # Errors
/// As [`train`]. The other processes then wait for this one: end them with [`World::abort`].
pub fn train_in(
    world: &World,
    folder: &RunFolder,
    recipe: &Recipe,
    resume: bool,
    device: &Device,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    recipe.check()?;
    check_option("amp", recipe.precision(), device)?;
    check_processes(world, recipe, device)?;
    let observe = &mut |event: Event<'_>| {
        if world.is_first() || matches!(event, Event::Skipped { .. }) {
            observe(event);
        }
    };
    let train = match recipe.task {
        Task::Classify => train_as::<Classification>,
        Task::Segment => train_as::<Segmentation>,
        Task::Detect | Task::Instance => train_as::<Detection>,
    };
    train(world, folder, recipe, resume, device, stop, observe)
}

/// [`train_in`] with a recipe that is checked.
fn train_as<T: Objective>(
    world: &World,
    folder: &RunFolder,
    recipe: &Recipe,
    resume: bool,
    device: &Device,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    let objective = T::open(recipe, world.shard())?;
    let device = device.clone().autodiff();
    let images = recipe.batch_size * recipe.grad_accum_steps * world.size();
    let scaled = recipe.with_lr_for(images);
    let run = Run { world, folder, recipe: &scaled, objective, device, stop };
    let mut state = State::<T>::start(&run, resume, observe)?;
    agree_on_start(&run, &state)?;
    if !resume && world.is_first() {
        folder.begin(recipe)?; // not before: a run that cannot start leaves no folder
    }
    let mut metrics = folder.read_metrics(state.progress.epoch)?;
    let first_step = state.progress.epoch * run.steps() + state.progress.step + 1;
    let mut events = EventLog::new(folder.root(), first_step);
    let Counts { train_images, val_images, classes } = run.objective.counts();
    let parameters = state.model.num_params();
    observe(Event::Started { train_images, val_images, classes, parameters });
    if scaled.lr != recipe.lr {
        let Recipe { lr: recipe_lr, lr_base_size, .. } = *recipe;
        observe(Event::ScaledLr { recipe_lr, lr_base_size, lr: scaled.lr, images });
    }

    let start = Instant::now();
    let seconds_before = state.progress.seconds;
    let seconds = || seconds_before + start.elapsed().as_secs_f64();
    while state.progress.epoch < recipe.total_epochs() {
        let Some(images_per_second) = train_epoch(&mut state, &run, &mut events, observe)? else {
            return state.interrupt(&run, seconds());
        };
        let Some(validation) = validate(&state, &run, observe)? else {
            return state.interrupt(&run, seconds());
        };
        let epoch = EpochMetrics { images_per_second, seconds: seconds(), ..validation };
        state.finish_epoch(&run, &epoch)?;
        metrics.push(epoch);
        if world.is_first() {
            folder.write_metrics(&metrics)?;
            state.checkpoint().write(&folder.checkpoint())?;
            events.write_epoch(&epoch)?;
        }
        observe(Event::Epoch(&epoch));
    }
    let best_score = state.progress.best_score.unwrap_or_default();
    Ok(Outcome::Finished { metrics, best_score, seconds: state.progress.seconds })
}

/// What several processes need beside what [`Recipe::check`] asks for.
fn check_processes(world: &World, recipe: &Recipe, device: &Device) -> Result<()> {
    if world.size() == 1 {
        return Ok(());
    }
    let mixes = recipe.mixup_in(0).is_some();
    if mixes && !recipe.batch_size.is_multiple_of(2) {
        let reason = "must be even for Mixup and CutMix in several processes: a picture and its \
                      partner go to the same one";
        return Err(Error::option("batch_size", format!("{reason}, got {}", recipe.batch_size)));
    }
    if recipe.sync_bn && !is_cpu(device) {
        return Err(Error::option("sync_bn", "works on the CPU only, take `--device cpu`"));
    }
    Ok(())
}

/// What stays the same from step to step.
pub(crate) struct Run<'a, T> {
    pub world: &'a World,
    pub folder: &'a RunFolder,
    pub recipe: &'a Recipe,
    pub objective: T,
    /// With gradients.
    pub device: Device,
    stop: &'a AtomicBool,
}

impl<T: Objective> Run<'_, T> {
    /// Steps of the optimizer in an epoch.
    fn steps(&self) -> usize {
        self.objective.batches(self.recipe).div_ceil(self.recipe.grad_accum_steps)
    }

    /// Whether any process was asked to stop; all must ask at the same time.
    pub fn is_stopped(&self) -> bool {
        self.world.any(self.stop.load(Ordering::Relaxed))
    }

    /// [`is_stopped`](Self::is_stopped) for those who are asked whether to go on.
    pub fn unless_stopped(&self) -> ControlFlow<()> {
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The steps of one epoch, from where the state stands; the speed in pictures a second, or
/// `None` if it was asked to stop.
fn train_epoch<T: Objective>(
    state: &mut State<T>,
    run: &Run<'_, T>,
    events: &mut EventLog,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Option<f64>> {
    let Run { recipe, objective, .. } = run;
    let Progress { epoch, step: first, .. } = state.progress;
    let steps = run.steps();
    let mut batches = objective.load(recipe, epoch, first * recipe.grad_accum_steps);
    let start = Instant::now();
    let mut images = 0;
    for step in first..steps {
        let lr = recipe.lr_at(epoch, step, steps);
        let before = state.progress;
        if state.update(run, &mut batches, lr, observe)?.is_break() {
            return Ok(None);
        }
        let progress = &state.progress;
        let seen = progress.images - before.images;
        if seen > 0 && run.world.is_first() {
            let loss = (progress.loss_sum - before.loss_sum) / seen as f64;
            events.write_step(epoch * steps + step + 1, loss, lr)?;
        }
        images += seen;
        observe(Event::Step(StepMetrics {
            epoch: epoch + 1,
            epochs: recipe.total_epochs(),
            step: step + 1,
            steps,
            loss: progress.mean_loss(),
            accuracy: recipe.task.has_accuracy().then(|| progress.accuracy()),
            lr,
            images_per_second: images as f64 / start.elapsed().as_secs_f64(),
        }));
        if run.is_stopped() {
            return Ok(None);
        }
    }
    Ok(Some(images as f64 / start.elapsed().as_secs_f64()))
}

/// The metrics of the epoch, all but the speed, or `None` if it was asked to stop.
fn validate<T: Objective>(
    state: &State<T>,
    run: &Run<'_, T>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Option<EpochMetrics>> {
    let progress = state.progress;
    let found = T::validate(run, state.averaged(), progress.accuracy(), observe)?;
    let Some(Validation { scores, images, skipped }) = found else {
        return Ok(None);
    };
    let steps = run.steps();
    let lr = run.recipe.lr_at(progress.epoch, steps - 1, steps);
    if let Some((name, value)) = scores.named().into_iter().find(|(_, value)| !value.is_finite()) {
        // Nothing of this epoch may be saved over what is good.
        return Err(state.diverged(name, value, lr, run));
    }
    Ok(Some(EpochMetrics {
        epoch: progress.epoch + 1,
        train_loss: progress.mean_loss(),
        scores,
        lr,
        images_per_second: 0.0,
        seconds: 0.0,
        skipped: progress.skipped + skipped,
        val_images: images,
    }))
}

/// Tells which pictures were left out.
pub(super) fn report_skipped(skipped: &[(PathBuf, String)], observe: &mut dyn FnMut(Event<'_>)) {
    for (path, reason) in skipped {
        observe(Event::Skipped { path, reason });
    }
}
