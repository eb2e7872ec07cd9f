//! `biformer train`

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use biformer::Error;
use biformer::classification::Pretrained;
use biformer::data::segmentation::SegmentationSet;
use biformer::distributed::World;
use biformer::train::{Event, Outcome, Recipe, RunFolder, Task, train_in};
use biformer::weights::resolve;
use serde_json::{Map, json};

use super::{Done, next_free, plural, print, shown};
use crate::args::{Overrides, TrainArgs};
use crate::device;
use crate::progress::{Progress, say};

pub fn run(args: &TrainArgs, world: &World, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let (run, recipe) = match &args.resume {
        Some(folder) => {
            let (run, mut recipe) = RunFolder::open(folder)?;
            if args.data.is_some() {
                recipe.data.clone_from(&args.data); // the pictures may have moved
            }
            (run, recipe)
        }
        None => {
            let recipe =
                resolve_recipe(args.recipe.as_deref(), args.data.as_deref(), &args.overrides)?;
            let output = args.output.clone().unwrap_or_else(|| next_free("runs/train"));
            (RunFolder::new(&output)?, recipe)
        }
    };
    let root = shown(run.root());
    let mut progress = Progress::new();
    if world.is_first() {
        progress.line(format!("{} → {root}{}", recipe.model, in_processes(world)));
    }
    let resume = args.resume.is_some();
    let mut observe = |event: Event<'_>| progress.show(event);
    let outcome = train_in(world, &run, &recipe, resume, &device, stop, &mut observe);
    progress.finish();
    if !world.is_first() {
        return Ok(match outcome? {
            Outcome::Interrupted { .. } => Done::Interrupted,
            Outcome::Finished { .. } => Done::Well,
        });
    }
    // A loss that is no number would be none again.
    let can_go_on = !matches!(outcome, Ok(_) | Err(Error::Training(_)));
    if can_go_on && run.recipe().exists() {
        say(format!("the run is kept; go on with\n  biformer train --resume {root}"));
    }
    match outcome? {
        Outcome::Interrupted { epoch, step } => {
            say(format!("interrupted after epoch {epoch}, step {step}; go on with"));
            say(format!("  biformer train --resume {root}"));
            Ok(Done::Interrupted)
        }
        Outcome::Finished { metrics, best_score, seconds } => {
            let last = metrics.last();
            let best = shown(&run.best());
            say(format!("best weights: {best}"));
            say(format!("next:  biformer predict PICTURE --checkpoint {best}"));
            let scores = last.map(|m| m.scores.named()).unwrap_or_default();
            let scores = scores.into_iter().filter(|(name, _)| name.starts_with("val_"));
            let mut line: Map<_, _> =
                scores.map(|(name, score)| (name.to_owned(), score.into())).collect();
            let best = match recipe.task {
                Task::Classify => "best_val_top1",
                Task::Segment => "best_val_mIoU",
                Task::Detect | Task::Instance => "best_val_bbox_mAP",
            };
            line.insert(best.to_owned(), best_score.into());
            line.insert("images".to_owned(), json!(last.map(|m| m.val_images)));
            line.insert("epochs".to_owned(), metrics.len().into());
            line.insert("seconds".to_owned(), seconds.into());
            line.insert("output".to_owned(), root.into());
            print(json!(line))?;
            Ok(Done::Well)
        }
    }
}

fn in_processes(world: &World) -> String {
    match world.size() {
        1 => String::new(),
        size => {
            format!(" in {size} processes of {}", plural(rayon::current_num_threads(), "thread"))
        }
    }
}

/// The recipe of the file, or the built-in one, with what the flags change.
pub(super) fn resolve_recipe(
    file: Option<&Path>,
    data: Option<&Path>,
    overrides: &Overrides,
) -> anyhow::Result<Recipe> {
    let mut recipe = match file {
        Some(path) => Recipe::read(path)?,
        None => match overrides.task {
            Some(Task::Segment) => Recipe::segmentation(),
            Some(Task::Detect) => Recipe::detection(),
            Some(Task::Instance) => Recipe::instance_segmentation(),
            _ => Recipe::default(),
        },
    };
    if data.is_some() {
        recipe.data = data.map(Path::to_owned);
    }
    overrides.apply(&mut recipe)?;
    recipe.data = recipe.data.as_deref().map(absolute);
    if let Some(path) = recipe.initial_checkpoint.take() {
        let is_file = Pretrained::named(&path).is_none();
        recipe.initial_checkpoint = Some(if is_file { absolute(&path) } else { path });
    }
    recipe.token_label_data = recipe.token_label_data.as_deref().map(absolute);
    recipe.dataset = recipe.dataset.map(|name| match SegmentationSet::built_in(&name) {
        Some(_) => name,
        None => shown(&absolute(Path::new(&name))),
    });
    recipe.check()?;
    Ok(recipe)
}

/// A run that is resumed from another folder must find its pictures again.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Overrides {
    fn apply(&self, recipe: &mut Recipe) -> anyhow::Result<()> {
        fn set<T: Clone>(value: &mut T, flag: &Option<T>) {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        fn set_pair<N: Copy>(value: &mut [N; 2], flag: &Option<Vec<N>>) {
            if let Some([low, high]) = flag.as_deref() {
                *value = [*low, *high];
            }
        }
        if let Some(source) = &self.initial_checkpoint {
            recipe.initial_checkpoint = Some(resolve(source)?);
        }
        if self.lr.is_some() {
            recipe.lr_base_size = 0; // as in timm: a rate that is typed is meant as it is
        }
        macro_rules! set {
            ($($key:ident),* $(,)?) => { $(set(&mut recipe.$key, &self.$key);)* };
        }
        set![
            task,
            model,
            img_size,
            crop_pct,
            epochs,
            cooldown_epochs,
            batch_size,
            grad_accum_steps,
            seed,
            lr,
            lr_base_size,
            min_lr,
            warmup_lr,
            warmup_epochs,
            sched_on_updates,
            weight_decay,
            opt_eps,
            layer_decay,
            clip_grad,
            model_ema,
            model_ema_decay,
            model_ema_warmup,
            amp,
            sync_bn,
            drop_path,
            smoothing,
            hflip,
            aa,
            color_jitter,
            reprob,
            remode,
            recount,
            aug_repeats,
            mixup,
            cutmix,
            mixup_prob,
            mixup_switch_prob,
            mixup_mode,
            mixup_off_epoch,
            class_blocks,
            token_label,
            dense_weight,
            cls_weight,
            mix_token,
            method,
            neck_channels,
            head_channels,
            aux_channels,
            class_weight,
            crop_size,
            cat_max_ratio,
            photo_metric_distortion,
            size_divisor,
            max_iters,
            val_interval,
            lr_policy,
            power,
            warmup_iters,
            warmup_ratio,
            lr_steps,
            multi_scale,
            stacked_convs,
            norm_eval,
        ];
        if self.dataset.is_some() {
            recipe.dataset.clone_from(&self.dataset);
        }
        if self.token_label_data.is_some() {
            recipe.token_label_data.clone_from(&self.token_label_data);
        }
        set_pair(&mut recipe.opt_betas, &self.opt_betas);
        set_pair(&mut recipe.scale, &self.scale);
        set_pair(&mut recipe.ratio, &self.ratio);
        set_pair(&mut recipe.img_scale, &self.img_scale);
        set_pair(&mut recipe.ratio_range, &self.ratio_range);
        Ok(())
    }
}
