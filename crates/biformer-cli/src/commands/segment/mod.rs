//! `eval` and `predict` where the checkpoint is a segmentor's, and what other commands share with them.

pub mod eval;
pub mod predict;

use biformer::Error;
use biformer::classification::Pretrained;
use biformer::data::segmentation::TestResize;
use biformer::segmentation::{
    Inference, LoadDenseOptions, LoadedSegmentor, Slide, is_segmentor, load_segmentor,
};
use biformer::train::Task;
use biformer::weights::resolve;
use burn::tensor::Device;

use crate::args::{CheckpointArgs, LookArgs, Mode, ScaleArgs, TransformArgs, WindowArgs};

/// Whether the flags, or without them the checkpoint, call for a segmentor; `given` is the first flag that was
/// given for one.
///
/// # Errors
/// If flags were given that mean nothing then.
pub fn is_meant(
    task: Option<Task>,
    checkpoint: &CheckpointArgs,
    transform: &TransformArgs,
    given: Option<&'static str>,
) -> anyhow::Result<bool> {
    let is_meant = match task {
        Some(task) => task == Task::Segment,
        None => is_segmentor(&resolve(&checkpoint.checkpoint)?),
    };
    let of_classifiers = [
        ("img-size", transform.img_size.is_some(), "--img-scale"),
        ("crop-pct", transform.crop_pct.is_some(), "--img-scale"),
        ("num-classes", checkpoint.num_classes.is_some(), "a file with as many"),
        ("use-ema", checkpoint.use_ema, "--checkpoint-key"),
    ];
    let foreign = of_classifiers.into_iter().find(|&(_, given, _)| given);
    match (is_meant, foreign, given) {
        (true, Some((flag, _, instead)), _) => {
            Err(Error::option(flag, format!("is for classifiers; take {instead}")).into())
        }
        (false, _, Some(flag)) => {
            let checkpoint = &checkpoint.checkpoint;
            Err(Error::option(flag, format!("is for segmentors, `{checkpoint}` is none")).into())
        }
        _ => Ok(is_meant),
    }
}

/// An error that names the flag, if a classifier was given one that is for segmentors.
pub fn refuse(flags: [(&'static str, bool); 2]) -> Result<(), Error> {
    match flags.into_iter().find(|&(_, is_given)| is_given) {
        Some((flag, _)) => Err(Error::option(flag, "is for segmentors and detectors")),
        None => Ok(()),
    }
}

/// The segmentor that the flags name.
pub fn load(args: &CheckpointArgs, device: &Device) -> anyhow::Result<LoadedSegmentor> {
    let options = LoadDenseOptions {
        model: args.model.clone(),
        key: args.checkpoint_key.clone(),
        ..LoadDenseOptions::default()
    };
    open(&args.checkpoint, &options, device)
}

/// The segmentor in a file, or on the hub.
pub fn open(
    checkpoint: &str,
    options: &LoadDenseOptions,
    device: &Device,
) -> anyhow::Result<LoadedSegmentor> {
    let path = resolve(checkpoint)?;
    if Pretrained::named(&path).is_some() {
        let reason = "name the file of a segmentor; the weights that are built in are classifiers'";
        return Err(Error::option("checkpoint", reason).into());
    }
    Ok(load_segmentor(&path, options, device)?)
}

/// How pictures are looked at; what no flag says is as in the file.
fn inference(args: &LookArgs, resize: TestResize) -> Result<Inference, Error> {
    let resize = test_resize(&args.scale, resize);
    let mut inference = match args.aug_test {
        true => Inference::multi_scale(resize),
        false => Inference { flip: args.flip, ..Inference::single_scale(resize) },
    };
    if let Some(ratios) = &args.img_ratios {
        inference.ratios.clone_from(ratios);
    }
    inference.slide = slide(&args.windows)?;
    inference.check()?;
    Ok(inference)
}

/// The size at which pictures are seen; what no flag says is as in the file.
pub fn test_resize(args: &ScaleArgs, of_file: TestResize) -> TestResize {
    let img_scale = match args.img_scale.as_deref() {
        Some(&[long, short]) => [long, short],
        _ => of_file.img_scale,
    };
    TestResize { img_scale, size_divisor: args.size_divisor.unwrap_or(of_file.size_divisor) }
}

/// The windows that the flags ask for.
pub fn slide(args: &WindowArgs) -> Result<Option<Slide>, Error> {
    let crop_size = args.crop_size.unwrap_or(512);
    let stride = args.stride.unwrap_or((crop_size * 2).div_ceil(3));
    match args.mode {
        Some(Mode::Slide) => Ok(Some(Slide { crop_size, stride })),
        _ if args.crop_size.is_some() => Err(Error::option("crop-size", "needs --mode slide")),
        _ if args.stride.is_some() => Err(Error::option("stride", "needs --mode slide")),
        _ => Ok(None),
    }
}
