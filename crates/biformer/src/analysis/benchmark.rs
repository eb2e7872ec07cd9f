//! Speed of a model or of one operator, on random numbers.

use std::sync::atomic::AtomicBool;

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

use super::measure::{Work, measure};
use super::{LayerCost, Measurement, bra_costs, classifier_costs, full_attention_costs};
use crate::attention::{BraConfig, FullAttentionConfig};
use crate::classification::ImageClassifierConfig;
use crate::data::soft_targets;
use crate::models::BiFormerConfig;
use crate::train::{Classification, Recipe, State, TrainBatch};
use crate::{Error, Precision, Result, check_precision};

/// How to measure.
#[derive(Clone, Debug)]
pub struct Benchmark {
    /// Pictures, or maps, in a run.
    pub batch_size: usize,
    /// Height and width of the pictures in pixels; of an operator's map in tokens.
    pub img_size: [usize; 2],
    /// Threads that compute.
    pub threads: usize,
    /// Runs to time at least; they go on until a second is full.
    pub runs: usize,
    /// Runs before those.
    pub warmup: usize,
    /// Whether to record the time of each class of operators, in as many runs after the timed ones.
    pub profile: bool,
    /// Of products with weights.
    pub precision: Precision,
    /// Where to compute.
    pub device: Device,
}

impl Default for Benchmark {
    fn default() -> Self {
        Self {
            batch_size: 1,
            img_size: [224, 224],
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            runs: 10,
            warmup: 3,
            profile: false,
            precision: Precision::F32,
            device: Device::default(),
        }
    }
}

/// Forward passes of a classifier with fresh weights; `None` if `stop` was set.
///
/// # Errors
/// [`Error::Option`] if there is no such model, or an option is out of its range.
pub fn inference(
    model: &str,
    options: &Benchmark,
    stop: &AtomicBool,
) -> Result<Option<Measurement>> {
    let config = ImageClassifierConfig::new(BiFormerConfig::from_name(model)?);
    options.check_for_model()?;
    let Benchmark { batch_size, img_size: [height, width], device, .. } = options;
    options.in_pool(|| {
        let model = config.init(device);
        let work = Work { costs: classifier_costs(&model, options.img_size), passes: 1 };
        let model = model.for_inference_in(options.precision);
        let images = random([*batch_size, 3, *height, *width], device);
        check_answer(model.forward(images.clone()));
        measure(options, &work, stop, || {
            model.forward(images.clone());
            Ok(())
        })
    })?
}

/// Training steps of a classifier with fresh weights, all that `train` does with a batch that
/// is in memory: forward, cross entropy, backward, AdamW. `None` if `stop` was set.
///
/// # Errors
/// [`Error::Option`] if there is no such model, or an option is out of its range.
pub fn train_step(
    model: &str,
    options: &Benchmark,
    stop: &AtomicBool,
) -> Result<Option<Measurement>> {
    let backbone = BiFormerConfig::from_name(model)?;
    options.check_for_model()?;
    let &Benchmark { batch_size, img_size: [height, width], precision, .. } = options;
    let amp = match precision {
        Precision::F32 => false,
        Precision::Bf16 => true,
        Precision::F16 => {
            let reason = "training rounds to bf16, whose range is that of f32; not to f16";
            return Err(Error::option("precision", reason));
        }
    };
    let recipe = Recipe { model: model.to_owned(), batch_size, amp, ..Recipe::default() };
    let device = options.device.clone().autodiff();
    options.in_pool(|| {
        let model = ImageClassifierConfig::new(backbone.clone()).init(&device);
        let classes = model.num_classes();
        let work = Work { costs: classifier_costs(&model, options.img_size), passes: 3 };
        let mut state = State::<Classification>::new(model, &recipe, &backbone.into());
        let images = random([batch_size, 3, height, width], &device);
        let labels: Vec<_> = (0..batch_size).map(|picture| picture % classes).collect();
        let targets = soft_targets(&labels, classes, recipe.smoothing, &[], [height, width]);
        let targets = TensorData::new(targets, [batch_size, classes]);
        let targets = Tensor::from_data(targets, &device);
        measure(options, &work, stop, || {
            // The same batch again and again: a higher rate would soon leave the numbers.
            let (images, targets) = (images.clone(), targets.clone());
            state.step(TrainBatch { images, targets, tokens: None }, &recipe, recipe.warmup_lr);
            Ok(())
        })
    })?
}

/// Forward passes of bi-level routing attention with fresh weights; `None` if `stop` was set.
///
/// # Errors
/// [`Error::Option`] if an option is out of its range.
pub fn operator(
    config: &BraConfig,
    options: &Benchmark,
    stop: &AtomicBool,
) -> Result<Option<Measurement>> {
    rule("n_win", [config.n_win], |n_win| (1..=128).contains(&n_win), "1 to 128")?;
    rule("topk", [config.topk], |topk| topk > 0, "1 or more")?;
    options.check_for_attention(config.dim, config.num_heads)?;
    options.in_pool(|| {
        let attention = config.init(&options.device);
        let costs = bra_costs(&attention, options.img_size);
        let attention = attention.for_inference(options.precision);
        let dtype = attention.qkv.product_type();
        forward_passes(costs, config.dim, dtype, options, stop, |x| attention.forward(x))
    })?
}

/// Forward passes of full attention with fresh weights, see [`operator`].
///
/// On the CPU no matrix of all pairs of tokens is ever in memory; on other devices it is.
///
/// # Errors
/// [`Error::Option`] if an option is out of its range.
pub fn full_attention(
    config: &FullAttentionConfig,
    options: &Benchmark,
    stop: &AtomicBool,
) -> Result<Option<Measurement>> {
    options.check_for_attention(config.dim, config.num_heads)?;
    options.in_pool(|| {
        let attention = config.init(&options.device);
        let costs = full_attention_costs(&attention, options.img_size);
        let attention = attention.for_inference(options.precision);
        let dtype = attention.qkv.product_type();
        forward_passes(costs, config.dim, dtype, options, stop, |x| attention.forward(x))
    })?
}

/// Measures `forward` on a map of `dim` channels, of the type in which it comes within a block.
fn forward_passes(
    costs: Vec<LayerCost>,
    dim: usize,
    dtype: DType,
    options: &Benchmark,
    stop: &AtomicBool,
    forward: impl Fn(Tensor<4>) -> Tensor<4>,
) -> Result<Option<Measurement>> {
    let Benchmark { batch_size, img_size: [height, width], device, .. } = options;
    let x = random([*batch_size, *height, *width, dim], device).cast(dtype);
    check_answer(forward(x.clone()));
    measure(options, &Work { costs, passes: 1 }, stop, || {
        forward(x.clone());
        Ok(())
    })
}

/// Numbers like those of normalised pictures.
fn random(shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Time means nothing if the answer is none.
fn check_answer<const D: usize>(output: Tensor<D>) {
    let sum: f32 = output.cast(DType::F32).abs().sum().into_scalar();
    assert!(sum.is_finite(), "benchmark: the output has numbers that are not finite");
}

impl Benchmark {
    /// Whether [`inference`] and [`train_step`] can take them.
    ///
    /// # Errors
    /// [`Error::Option`] if one is out of its range.
    pub fn check_for_model(&self) -> Result<()> {
        self.check()?;
        rule("img_size", self.img_size, |side| (32..=2048).contains(&side), "32 to 2048 pixels")
    }

    /// Whether [`operator`] and [`full_attention`] can take them, with so many channels and heads.
    ///
    /// # Errors
    /// [`Error::Option`] if one is out of its range.
    pub fn check_for_attention(&self, dim: usize, num_heads: usize) -> Result<()> {
        self.check()?;
        rule("img_size", self.img_size, |side| (1..=2048).contains(&side), "1 to 2048 tokens")?;
        rule("dim", [dim], |dim| (1..=8192).contains(&dim), "1 to 8192")?;
        let divides = |heads: usize| heads > 0 && dim.is_multiple_of(heads);
        rule("num_heads", [num_heads], divides, &format!("a divisor of {dim}"))
    }

    pub(super) fn check(&self) -> Result<()> {
        let Self { batch_size, threads, runs, warmup, .. } = *self;
        rule("batch_size", [batch_size], |size| (1..=65_536).contains(&size), "1 to 65536")?;
        rule("threads", [threads], |threads| (1..=1024).contains(&threads), "1 to 1024")?;
        rule("runs", [runs], |runs| (1..=100_000).contains(&runs), "1 to 100000")?;
        rule("warmup", [warmup], |runs| runs <= 100_000, "0 to 100000")?;
        check_precision(self.precision, &self.device)
    }

    /// All of it within the pool: work is handed out faster from one of its threads.
    pub(super) fn in_pool<R: Send>(&self, measurement: impl FnOnce() -> R + Send) -> Result<R> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        let pool = pool.map_err(|error| Error::option("threads", error))?;
        Ok(pool.install(measurement))
    }
}

/// An error unless each of `values` holds the rule, which its `description` follows "must be".
pub(super) fn rule<const N: usize>(
    option: &'static str,
    values: [usize; N],
    holds: impl Fn(usize) -> bool,
    description: &str,
) -> Result<()> {
    match values.into_iter().all(holds) {
        true => Ok(()),
        false => {
            let found = values.map(|value| value.to_string()).join("x");
            Err(Error::option(option, format!("must be {description}, got {found}")))
        }
    }
}
