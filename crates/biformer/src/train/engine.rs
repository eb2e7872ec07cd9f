//! Training of a classifier: epochs of steps, a validation and a checkpoint after each.
//!
//! This is an engine of ours and not Burn's `SupervisedTraining`; ARCHITECTURE.md says why.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor};

use super::{AdamW, Checkpoint, EpochMetrics, Progress, Recipe, RunFolder};
use crate::classification::{
    ClassifierInfo, ImageClassifier, ImageClassifierConfig, LoadOptions, cross_entropy, evaluate,
    load_classifier, save_classifier, to_tensors,
};
use crate::data::{
    Batch, DataLoader, EvalTransform, ImageFolder, Split, TrainTransform, split_folder,
};
use crate::models::BiFormerConfig;
use crate::weights::{KeyStyle, load_state_dict, state_dict};
use crate::{Error, Result};

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // of the fields of the variants: their names say it
pub enum Event<'a> {
    /// Before the first step.
    Started { train_images: usize, val_images: usize, classes: usize, parameters: usize },
    /// The head of the initial checkpoint had another number of classes and is fresh.
    ReplacedHead { checkpoint_classes: usize, classes: usize },
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

/// Where training stands after a step.
#[derive(Clone, Copy, Debug)]
pub struct StepMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Epochs of the run.
    pub epochs: usize,
    /// Counted from 1, within the epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Mean over the epoch so far.
    pub loss: f64,
    /// Training accuracy over the epoch so far.
    pub top1: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Training pictures a second in this epoch.
    pub images_per_second: f64,
}

/// How a run ended.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // of the fields of the variants: their names say it
pub enum Outcome {
    /// All epochs are done.
    Finished { metrics: Vec<EpochMetrics>, best_top1: f64, seconds: f64 },
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
/// What is wrong with data, checkpoints or disk; [`Error::Training`] if the loss is no number.
pub fn train(
    folder: &RunFolder,
    recipe: &Recipe,
    resume: bool,
    device: &Device,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    recipe.check()?;
    let data = Data::open(recipe)?;
    let device = device.clone().autodiff();
    let run = Run { folder, recipe, data, device, stop };
    let mut state = State::start(&run, resume, observe)?;
    if !resume {
        folder.begin(recipe)?; // not before: a run that cannot start leaves no folder
    }
    let mut metrics = folder.read_metrics(state.progress.epoch)?;
    observe(Event::Started {
        train_images: run.data.train.samples.len(),
        val_images: run.data.val.samples.len(),
        classes: run.data.info.classes.len(),
        parameters: state.model.num_params(),
    });

    let start = Instant::now();
    let seconds_before = state.progress.seconds;
    let seconds = || seconds_before + start.elapsed().as_secs_f64();
    while state.progress.epoch < recipe.epochs {
        let Some(images_per_second) = train_epoch(&mut state, &run, observe)? else {
            return state.interrupt(folder, seconds());
        };
        let Some(validation) = validate(&state, &run, observe) else {
            return state.interrupt(folder, seconds());
        };
        let epoch = EpochMetrics { images_per_second, seconds: seconds(), ..validation };
        state.finish_epoch(&run, &epoch)?;
        metrics.push(epoch);
        folder.write_metrics(&metrics)?;
        state.checkpoint().write(&folder.checkpoint())?;
        observe(Event::Epoch(&epoch));
    }
    let best_top1 = state.progress.best_top1.unwrap_or_default();
    Ok(Outcome::Finished { metrics, best_top1, seconds: state.progress.seconds })
}

/// What stays the same from step to step.
struct Run<'a> {
    folder: &'a RunFolder,
    recipe: &'a Recipe,
    data: Data,
    /// With gradients.
    device: Device,
    stop: &'a AtomicBool,
}

impl Run<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The steps of one epoch, from where the state stands; the speed in pictures a second, or
/// `None` if it was asked to stop.
fn train_epoch(
    state: &mut State,
    run: &Run<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Option<f64>> {
    let Run { recipe, data, device, .. } = run;
    let steps = data.train.batches();
    let transform = data.train_transform;
    let start = Instant::now();
    let mut images = 0;
    let speed = |images: usize| images as f64 / start.elapsed().as_secs_f64();
    let Progress { epoch, step: first, .. } = state.progress;
    let transform = Box::new(move |image: &_, rng: &mut _| transform.apply(image, rng));
    for batch in data.train.clone().epoch(epoch, first, transform) {
        let step = state.progress.step;
        let lr = recipe.lr_at(epoch, step, steps);
        report_skipped(&batch, observe);
        state.progress.skipped += batch.skipped.len();
        if !batch.labels.is_empty() {
            // Each step has its own seed, so that a resumed run draws the same numbers.
            device.seed(recipe.seed ^ (1 + epoch * steps + step) as u64);
            state.train_step(&batch, recipe, lr, device)?;
        }
        images += batch.labels.len();
        state.progress.step += 1;
        observe(Event::Step(StepMetrics {
            epoch: epoch + 1,
            epochs: recipe.epochs,
            step: state.progress.step,
            steps,
            loss: state.mean_loss(),
            top1: state.progress.accuracy.top1(),
            lr,
            images_per_second: speed(images),
        }));
        if run.is_stopped() {
            return Ok(None);
        }
    }
    Ok(Some(speed(images)))
}

/// The metrics of the epoch, all but the speed, or `None` if it was asked to stop.
fn validate(
    state: &State,
    run: &Run<'_>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Option<EpochMetrics> {
    let Run { recipe, data, device, .. } = run;
    let mut images = 0;
    let of = data.val.samples.len();
    let (model, device) = (state.model.valid().for_inference(), device.clone().inner());
    let val = evaluate(&model, data.val.clone(), data.info.transform, &device, |batch| {
        report_skipped(batch, observe);
        images += batch.labels.len() + batch.skipped.len();
        observe(Event::Validated { images, of });
        if run.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let progress = state.progress;
    let steps = data.train.batches();
    Some(EpochMetrics {
        epoch: progress.epoch + 1,
        train_loss: state.mean_loss(),
        train_top1: progress.accuracy.top1(),
        val_loss: val.loss,
        val_top1: val.accuracy.top1(),
        val_top5: val.accuracy.top5(),
        lr: recipe.lr_at(progress.epoch, steps - 1, steps),
        images_per_second: 0.0,
        seconds: 0.0,
        skipped: progress.skipped + val.skipped,
        val_images: val.accuracy.images,
    })
}

fn report_skipped(batch: &Batch, observe: &mut dyn FnMut(Event<'_>)) {
    for (path, reason) in &batch.skipped {
        observe(Event::Skipped { path, reason });
    }
}

/// The pictures of a run.
struct Data {
    train: DataLoader,
    val: DataLoader,
    train_transform: TrainTransform,
    info: ClassifierInfo,
}

impl Data {
    fn open(recipe: &Recipe) -> Result<Self> {
        let root: &PathBuf = recipe
            .data
            .as_ref()
            .ok_or_else(|| Error::option("data", "name the folder that holds `train` and `val`"))?;
        let train = ImageFolder::open(&split_folder(root, Split::Train)?)?;
        let val = ImageFolder::open_with_classes(&split_folder(root, Split::Val)?, &train.classes)?;
        let Recipe { batch_size, seed, .. } = *recipe;
        let loader =
            |samples, shuffle| DataLoader { shuffle, seed, ..DataLoader::new(samples, batch_size) };
        Ok(Self {
            train: loader(train.samples, true),
            val: loader(val.samples, false),
            train_transform: TrainTransform {
                scale: recipe.scale.into(),
                ratio: recipe.ratio.into(),
                hflip: recipe.hflip,
                ..TrainTransform::new(recipe.img_size)
            },
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
}

/// What changes from step to step.
pub(crate) struct State {
    model: ImageClassifier,
    optimizer: AdamW,
    progress: Progress,
    style: KeyStyle,
}

impl State {
    fn start(run: &Run<'_>, resume: bool, observe: &mut dyn FnMut(Event<'_>)) -> Result<Self> {
        let Run { folder, recipe, data, device, .. } = run;
        let backbone =
            BiFormerConfig::from_name(&recipe.model)?.with_drop_path_rate(recipe.drop_path);
        let style = backbone.key_style();
        let classes = data.info.classes.len();
        device.seed(recipe.seed);
        let model = match &recipe.initial_checkpoint {
            Some(path) => {
                let options = LoadOptions {
                    model: Some(recipe.model.clone()),
                    num_classes: Some(classes),
                    drop_path: recipe.drop_path,
                    ..LoadOptions::default()
                };
                let loaded = load_classifier(path, &options, device)?;
                if let Some(checkpoint_classes) = loaded.replaced_head {
                    observe(Event::ReplacedHead { checkpoint_classes, classes });
                }
                loaded.model
            }
            None => ImageClassifierConfig::new(backbone).with_num_classes(classes).init(device),
        };
        let mut state = Self::new(model, recipe, style);
        if resume && folder.checkpoint().exists() {
            state = state.resume(&folder.checkpoint(), device)?;
            let Progress { epoch, step, .. } = state.progress;
            observe(Event::Resumed { epoch, step });
        }
        Ok(state)
    }

    /// Before the first step.
    pub(crate) fn new(model: ImageClassifier, recipe: &Recipe, style: KeyStyle) -> Self {
        draw_weights(&model);
        let optimizer = AdamW::new(&recipe.optimizer(), style);
        Self { model, optimizer, progress: Progress::default(), style }
    }

    fn resume(mut self, path: &Path, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::read(path)?;
        self.model = load_state_dict(self.model, checkpoint.model, self.style)
            .map_err(|mismatch| Error::checkpoint(path, mismatch))?;
        self.optimizer
            .load_state_dict(checkpoint.optimizer, &device.clone().inner())
            .map_err(|reason| Error::checkpoint(path, reason))?;
        self.progress = checkpoint.progress;
        Ok(self)
    }

    /// Saves the weights of the epoch, and moves on to the next.
    fn finish_epoch(&mut self, run: &Run<'_>, epoch: &EpochMetrics) -> Result<()> {
        let model = self.model.valid();
        save_classifier(&run.folder.last(), &model, &run.data.info)?;
        // Before the checkpoint: a run killed between the two repeats the epoch and writes it again.
        let best = self.progress.best_top1;
        // Of a resumed run, `best` has been through JSON, which may have moved its last bit.
        if best.is_none_or(|best| epoch.val_top1 > best + 1e-9) {
            save_classifier(&run.folder.best(), &model, &run.data.info)?;
        }
        self.progress = Progress {
            epoch: epoch.epoch,
            best_top1: Some(best.map_or(epoch.val_top1, |best| best.max(epoch.val_top1))),
            seconds: epoch.seconds,
            ..Progress::default()
        };
        Ok(())
    }

    /// Saves where the run stands.
    fn interrupt(mut self, folder: &RunFolder, seconds: f64) -> Result<Outcome> {
        self.progress.seconds = seconds;
        self.checkpoint().write(&folder.checkpoint())?;
        let Progress { epoch, step, .. } = self.progress;
        Ok(Outcome::Interrupted { epoch, step })
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            progress: self.progress,
            model: state_dict(&self.model.valid(), self.style),
            optimizer: self.optimizer.state_dict(),
        }
    }

    fn train_step(
        &mut self,
        batch: &Batch,
        recipe: &Recipe,
        lr: f64,
        device: &Device,
    ) -> Result<()> {
        let (images, targets) = to_tensors(batch, recipe.img_size, device);
        let (loss, logits) = self.step(images, targets, recipe, lr)?;
        self.progress.loss_sum += f64::from(loss) * batch.labels.len() as f64;
        let logits = logits.into_data_as::<f32>().try_into_vec::<f32>().expect("float32 logits");
        self.progress.accuracy.update(&logits, &batch.labels);
        Ok(())
    }

    /// Forward, loss, backward, AdamW; returns loss and logits.
    pub(crate) fn step(
        &mut self,
        images: Tensor<4>,
        targets: Tensor<1, Int>,
        recipe: &Recipe,
        lr: f64,
    ) -> Result<(f32, Tensor<2>)> {
        let logits = self.model.forward(images);
        let loss = cross_entropy(logits.clone(), targets, recipe.smoothing);
        let loss_value: f32 = loss.clone().into_scalar();
        if !loss_value.is_finite() {
            let Progress { epoch, step, .. } = self.progress;
            return Err(Error::Training(format!(
                "the loss is {loss_value} in epoch {} at step {}, learning rate {lr:.2e}; lower the \
                 learning rate or warm up longer, in a new run",
                epoch + 1,
                step + 1
            )));
        }
        let model = self.model.clone();
        self.model = self.optimizer.step(lr, model, loss.backward());
        Ok((loss_value, logits))
    }

    fn mean_loss(&self) -> f64 {
        self.progress.loss_sum / self.progress.accuracy.images.max(1) as f64
    }
}

/// Burn draws weights when they are first used. Drawing them now, in the order of the module,
/// makes them a function of the seed alone.
fn draw_weights(model: &ImageClassifier) {
    struct Draw;
    impl ModuleVisitor for Draw {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let _ = param.val();
        }
    }
    model.visit(&mut Draw);
}
