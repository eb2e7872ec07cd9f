//! `eval` and `predict` where the checkpoint is a detector's.

pub mod eval;
pub mod predict;

use biformer::Error;
use biformer::classification::Pretrained;
use biformer::data::detection::ResizePad;
use biformer::detection::{
    DetectOptions, Inference, LoadDenseOptions, LoadedDetector, is_detector, load_detector,
};
use biformer::train::Task;
use biformer::weights::resolve;
use burn::tensor::Device;

use crate::args::{CheckpointArgs, DetectArgs, LookArgs, ScaleArgs, TransformArgs};

/// Whether the flags, or without them the checkpoint, call for a detector.
///
/// # Errors
/// If flags were given that mean nothing then.
pub fn is_meant(
    task: Option<Task>,
    checkpoint: &CheckpointArgs,
    transform: &TransformArgs,
    look: &LookArgs,
    detect: &DetectArgs,
) -> anyhow::Result<bool> {
    let is_meant = match task {
        Some(task) => !matches!(task, Task::Classify | Task::Segment),
        None => is_detector(&resolve(&checkpoint.checkpoint)?),
    };
    if !is_meant {
        return match detect.given() {
            Some(flag) => {
                let checkpoint = &checkpoint.checkpoint;
                Err(Error::option(flag, format!("is for detectors, `{checkpoint}` is none")).into())
            }
            None => Ok(false),
        };
    }
    let of_segmentors =
        LookArgs { scale: ScaleArgs::default(), ..look.clone() }.given().map(|flag| {
            Error::option(flag, "is for segmentors; a detector sees a picture whole and once")
        });
    let of_classifiers = [
        ("img-size", transform.img_size.is_some(), "--img-scale"),
        ("crop-pct", transform.crop_pct.is_some(), "--img-scale"),
        ("num-classes", checkpoint.num_classes.is_some(), "a file with as many"),
        ("use-ema", checkpoint.use_ema, "--checkpoint-key"),
    ];
    let of_classifiers =
        of_classifiers.into_iter().find(|&(_, given, _)| given).map(|(flag, _, instead)| {
            Error::option(flag, format!("is for classifiers; take {instead}"))
        });
    match of_classifiers.or(of_segmentors) {
        Some(error) => Err(error.into()),
        None => Ok(true),
    }
}

/// The detector that the flags name.
fn load(args: &CheckpointArgs, device: &Device) -> anyhow::Result<LoadedDetector> {
    let path = resolve(&args.checkpoint)?;
    if Pretrained::named(&path).is_some() {
        let reason = "name the file of a detector; the weights that are built in are classifiers'";
        return Err(Error::option("checkpoint", reason).into());
    }
    let options = LoadDenseOptions {
        model: args.model.clone(),
        key: args.checkpoint_key.clone(),
        ..LoadDenseOptions::default()
    };
    Ok(load_detector(&path, &options, device)?)
}

/// How pictures are looked at, and what is told of them; what no flag says of their size is as in the file.
fn inference(
    look: &LookArgs,
    detect: &DetectArgs,
    resize: ResizePad,
    score_threshold: f32,
) -> Result<Inference, Error> {
    let img_scale = match look.scale.img_scale.as_deref() {
        Some(&[long, short]) => [long, short],
        _ => resize.img_scale,
    };
    let size_divisor = look.scale.size_divisor.unwrap_or(resize.size_divisor);
    let official = DetectOptions::default();
    let options = DetectOptions {
        score_threshold: detect.score_thr.unwrap_or(score_threshold),
        iou_threshold: detect.iou_thr.unwrap_or(official.iou_threshold),
        max_per_image: detect.max_per_img.unwrap_or(official.max_per_image),
    };
    let inference = Inference { resize: ResizePad { img_scale, size_divisor, ..resize }, options };
    inference.check()?;
    Ok(inference)
}
