//! `biformer compare`: a training run for each recipe and seed, one after the other, and what came of them.

mod results;
mod speed;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use biformer::Error;
use biformer::train::{Event, Outcome, Recipe, RunFolder, Scores, Task, train};
use biformer::visualize::write_png;
use burn::tensor::Device;
use serde_json::json;

use self::results::{Results, Run};
use super::train::resolve_recipe;
use super::{Done, next_free, plural, print, shown};
use crate::args::CompareArgs;
use crate::device;
use crate::progress::{Progress, say};

pub fn run(args: &CompareArgs, stop: &AtomicBool) -> anyhow::Result<Done> {
    let device = device::parse(&args.device.device)?;
    let recipes = recipes(args)?;
    let output = args.output.clone().unwrap_or_else(|| next_free("runs/compare"));
    let mut results = Results::open(&output.join("results.csv"))?;
    let runs: Vec<_> = args
        .seeds
        .iter()
        .flat_map(|&seed| recipes.iter().map(move |(name, recipe)| (name, seed, recipe)))
        .collect();
    for (number, &(name, seed, recipe)) in runs.iter().enumerate() {
        let recipe = Recipe { seed, ..recipe.clone() };
        let (folder, is_begun) = run_folder(&output, name, &recipe)?;
        if results.has(name, seed) {
            continue;
        }
        say(format!("run {} of {}: {name}, seed {seed}", number + 1, runs.len()));
        let Some(trained) = train_one(&folder, is_begun, name, &recipe, &device, stop)? else {
            say(format!("interrupted; the same command with --output {} goes on", shown(&output)));
            return Ok(Done::Interrupted);
        };
        let speed = results.speed_of(name).map_or_else(|| speed::measure(args, &recipe), Ok)?;
        results.add(Run { speed, ..trained })?;
        forget_state(&folder)?;
    }
    let names: Vec<_> = recipes.iter().map(|(name, _)| name.as_str()).collect();
    let table = results.table(&names, &args.seeds);
    print(results::show(&table))?;
    write_png(&output.join("compare.png"), &results::draw(&table))?;
    say(format!("{}, results.csv and compare.png → {}", plural(runs.len(), "run"), shown(&output)));
    print(json!({ "metric": "val_top1", "seeds": args.seeds, "results": table,
                  "output": shown(&output) }))?;
    Ok(Done::Well)
}

/// Each with its name, that of its file.
fn recipes(args: &CompareArgs) -> anyhow::Result<Vec<(String, Recipe)>> {
    let given = [
        ("task", args.overrides.task.is_some(), "compares classifiers"),
        ("model", args.overrides.model.is_some(), "is what recipes differ in"),
        ("seed", args.overrides.seed.is_some(), "is that of one run; take --seeds"),
    ];
    if let Some((flag, _, reason)) = given.into_iter().find(|&(_, given, _)| given) {
        return Err(Error::option(flag, reason).into());
    }
    let mut recipes: Vec<(String, Recipe)> = Vec::new();
    for path in &args.recipes {
        let recipe = resolve_recipe(Some(path), args.data.as_deref(), &args.overrides)?;
        let wrong = |reason: String| Error::recipe(path, reason);
        if recipe.task != Task::Classify {
            return Err(wrong("key `task`: `compare` takes recipes of classifiers".into()).into());
        }
        if recipe.data.is_none() {
            return Err(Error::option("data", "name the folder of the pictures").into());
        }
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if recipes.iter().any(|(other, _)| *other == name) {
            return Err(wrong(format!("there is another recipe called `{name}`")).into());
        }
        recipes.push((name, recipe));
    }
    Ok(recipes)
}

/// The folder of a run, and whether it holds one already.
///
/// # Errors
/// If it holds one with another recipe.
fn run_folder(output: &Path, name: &str, recipe: &Recipe) -> anyhow::Result<(RunFolder, bool)> {
    let root: PathBuf = output.join(format!("{name}_seed{}", recipe.seed));
    if !root.join("recipe.toml").exists() {
        return Ok((RunFolder::new(&root)?, false));
    }
    let (folder, before) = RunFolder::open(&root)?;
    if before != *recipe {
        let reason = format!(
            "`{}` holds a run with other settings (see its recipe.toml); take these again, or another folder",
            shown(&root)
        );
        return Err(Error::option("output", reason).into());
    }
    Ok((folder, true))
}

/// Trains to the end, from where the run stood; `None` if it was interrupted.
fn train_one(
    folder: &RunFolder,
    is_begun: bool,
    name: &str,
    recipe: &Recipe,
    device: &Device,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Run>> {
    let mut progress = Progress::new();
    let mut observe = |event: Event<'_>| progress.show(event);
    let outcome = train(folder, recipe, is_begun, device, stop, &mut observe);
    progress.finish();
    let Outcome::Finished { metrics, best_score, seconds } = outcome? else { return Ok(None) };
    let last = metrics.last().ok_or_else(|| Error::option("epochs", "must be 1 or more"))?;
    let Scores::Classification { val_top1, val_top5, .. } = last.scores else {
        unreachable!("recipes of other tasks were refused")
    };
    Ok(Some(Run {
        recipe: name.to_owned(),
        model: recipe.model.clone(),
        seed: recipe.seed,
        img_size: recipe.img_size,
        epochs: metrics.len(),
        val_top1,
        val_top5,
        best_val_top1: best_score,
        seconds,
        ..Run::default()
    }))
}

/// The state to resume from is three times as large as the weights, and of no use after the end.
fn forget_state(folder: &RunFolder) -> Result<(), Error> {
    let path = folder.checkpoint();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", &path, error))
        }
        _ => Ok(()),
    }
}
