//! Every combination of what the flags name, one measurement each.

use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::atomic::AtomicBool;

use biformer::analysis::{
    Benchmark, LoaderMeasurement, Measurement, full_attention, inference, loader, operator,
    segmentor_inference, train_step,
};
use biformer::attention::{BraConfig, FullAttentionConfig};
use biformer::data::{
    DataLoader, ErasingMode, ImageFolder, RandomErasing, Split, TrainTransform, split_folder,
};
use biformer::models::BiFormerConfig;
use biformer::segmentation::{SegmentorConfig, Slide};
use biformer::{Error, Result};

use super::report::Row;
use super::{Bench, BenchmarkArgs, Operator, OperatorArgs, name};
use crate::commands::{segment, shown, size};

/// What is measured, and how.
pub(super) struct Case {
    pub subject: Subject,
    pub options: Benchmark,
}

#[derive(Clone)]
pub(super) enum Subject {
    Inference(String),
    Segmentor { model: String, method: String, slide: Option<Slide> },
    Train(String),
    Bra(BraConfig),
    Full(FullAttentionConfig),
    Loader(PathBuf),
}

/// By subject, then by size, then by batch size; an error if one of them cannot be measured.
pub(super) fn all(args: &BenchmarkArgs, options: &Benchmark) -> Result<Vec<Case>> {
    let models = match &args.model[..] {
        [] => vec!["biformer_tiny".to_owned()],
        models => models.to_vec(),
    };
    let slide = segment::slide(&args.windows)?;
    let subjects: Vec<Subject> = match (args.bench, &args.method) {
        (Bench::Inference, Some(method)) => {
            let subject = |model| Subject::Segmentor { model, method: method.clone(), slide };
            models.into_iter().map(subject).collect()
        }
        (Bench::Inference, None) => models.into_iter().map(Subject::Inference).collect(),
        (Bench::Train, _) => models.into_iter().map(Subject::Train).collect(),
        (Bench::Operator, _) => vec![attention(&args.operator.clone().unwrap_or_default())],
        (Bench::Loader | Bench::Growth | Bench::Throughput, _) => {
            args.data.iter().cloned().map(Subject::Loader).collect()
        }
    };
    let sizes: &[[usize; 2]] = match (&args.img_size[..], args.bench) {
        ([], Bench::Operator) => &[[200, 336]], // of the paper's detector: stride 4 at 800 × 1344 pixels
        ([], _) => from_ref(&options.img_size),
        (sizes, _) => sizes,
    };
    let mut cases = Vec::new();
    for subject in &subjects {
        for &img_size in sizes {
            for &batch_size in &args.batch_size {
                let options = Benchmark { img_size, batch_size, ..options.clone() };
                let case = Case { subject: subject.clone(), options };
                case.check()?;
                cases.push(case);
            }
        }
    }
    Ok(cases)
}

fn attention(args: &OperatorArgs) -> Subject {
    let (dim, num_heads) = (args.dim.unwrap_or(64), args.num_heads.unwrap_or(2));
    match args.operator.unwrap_or(Operator::Bra) {
        Operator::Bra => {
            let (n_win, topk) = (args.n_win.unwrap_or(16), args.topk.unwrap_or(4));
            Subject::Bra(BraConfig::new(dim, num_heads, n_win, topk))
        }
        Operator::Full => Subject::Full(FullAttentionConfig::new(dim).with_num_heads(num_heads)),
    }
}

impl Case {
    /// Before any case is measured: the last one should not fail after minutes.
    fn check(&self) -> Result<()> {
        match &self.subject {
            Subject::Inference(model) | Subject::Train(model) => {
                BiFormerConfig::from_name(model)?;
                self.options.check_for_model()
            }
            Subject::Segmentor { model, method, slide } => {
                SegmentorConfig::from_names(model, method)?;
                self.options.check_for_segmentor(*slide)
            }
            Subject::Bra(BraConfig { dim, num_heads, .. })
            | Subject::Full(FullAttentionConfig { dim, num_heads, .. }) => {
                self.options.check_for_attention(*dim, *num_heads)
            }
            Subject::Loader(_) => match self.options.img_size {
                [height, width] if height != width => {
                    Err(Error::option("img_size", "--bench loader makes squares"))
                }
                _ => self.options.check_for_model(),
            },
        }
    }

    /// A row of results, and what else there is of a model or an operator; `None` if `stop` was set.
    pub fn measure(
        &self,
        args: &BenchmarkArgs,
        stop: &AtomicBool,
    ) -> anyhow::Result<Option<(Row, Option<Measurement>)>> {
        let options = &self.options;
        let measured = match &self.subject {
            Subject::Inference(model) => inference(model, options, stop)?,
            Subject::Segmentor { model, method, slide } => {
                let config = SegmentorConfig::from_names(model, method)?;
                segmentor_inference(&config, *slide, options, stop)?
            }
            Subject::Train(model) => train_step(model, options, stop)?,
            Subject::Bra(config) => operator(config, options, stop)?,
            Subject::Full(config) => full_attention(config, options, stop)?,
            Subject::Loader(data) => {
                let loaded = load(data, options, stop)?;
                return Ok(loaded.map(|(images, measured)| {
                    let row = Row { images: Some(images), ..self.row(args) };
                    (row.with_loader(&measured), None)
                }));
            }
        };
        Ok(measured.map(|measured| (self.row(args).with(&measured), Some(measured))))
    }

    /// Without results.
    fn row(&self, args: &BenchmarkArgs) -> Row {
        let Benchmark { batch_size, img_size, threads, .. } = self.options;
        let row = Row {
            bench: name(args.bench),
            batch_size,
            img_size: size(img_size),
            threads,
            precision: name(args.precision.precision),
            device: args.device.device.clone(),
            ..Row::default()
        };
        match &self.subject {
            Subject::Inference(model) | Subject::Train(model) => {
                Row { model: Some(model.clone()), ..row }
            }
            Subject::Segmentor { model, method, slide } => Row {
                model: Some(model.clone()),
                method: Some(method.clone()),
                crop_size: slide.map(|slide| slide.crop_size),
                stride: slide.map(|slide| slide.stride),
                ..row
            },
            Subject::Bra(BraConfig { dim, num_heads, n_win, topk, .. }) => Row {
                model: Some(name(Operator::Bra)),
                dim: Some(*dim),
                num_heads: Some(*num_heads),
                n_win: Some(*n_win),
                topk: Some(*topk),
                ..row
            },
            Subject::Full(FullAttentionConfig { dim, num_heads, .. }) => Row {
                model: Some(name(Operator::Full)),
                dim: Some(*dim),
                num_heads: Some(*num_heads),
                ..row
            },
            Subject::Loader(data) => Row { data: Some(shown(data)), ..row },
        }
    }
}

/// The loader alone, with the augmentation of the paper's recipe; how many pictures there are.
fn load(
    data: &Path,
    options: &Benchmark,
    stop: &AtomicBool,
) -> anyhow::Result<Option<(usize, LoaderMeasurement)>> {
    let folder = split_folder(data, Split::Train).unwrap_or_else(|_| data.to_owned());
    let pictures = DataLoader {
        shuffle: true,
        workers: options.threads,
        ..DataLoader::new(ImageFolder::open(folder)?.samples, options.batch_size)
    };
    let erasing = RandomErasing { prob: 0.25, mode: ErasingMode::Pixel, count: 1 };
    let transform = TrainTransform {
        auto_augment: Some("rand-m9-mstd0.5-inc1".parse()?),
        random_erasing: Some(erasing),
        ..TrainTransform::new(options.img_size[0])
    };
    let measured = loader(&pictures, transform, options, stop)?;
    Ok(measured.map(|measured| (pictures.samples.len(), measured)))
}
