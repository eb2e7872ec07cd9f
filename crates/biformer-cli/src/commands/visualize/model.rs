//! What `visualize` looks into: a classifier, or a segmentor.

use biformer::Error;
use biformer::attention::{Attention, AttentionTrace};
use biformer::classification::{LoadedClassifier, Prediction, best_classes, class_label};
use biformer::data::segmentation::TestResize;
use biformer::data::{EvalTransform, Filter, Normalize, RgbImage, resize};
use biformer::segmentation::{LoadedSegmentor, MAX_WINDOW_PIXELS};
use biformer::visualize::AttentionMaps;
use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

use super::super::{load, segment};
use crate::args::VisualizeArgs;

#[allow(clippy::large_enum_variant)] // one of them in a run
pub(super) enum Model {
    Classifier(LoadedClassifier),
    /// Sees pictures at this size.
    Segmentor(LoadedSegmentor, TestResize),
}

/// What a model makes of a picture, and where it looked for that.
pub(super) struct Look {
    /// Of the picture; of a segmentor, that of the query.
    pub class: String,
    pub probability: f32,
    /// The attention of each block.
    pub stages: [Vec<AttentionMaps>; 4],
}

impl Model {
    /// What the flags name.
    pub fn load(args: &VisualizeArgs, device: &Device) -> anyhow::Result<Self> {
        let VisualizeArgs { checkpoint, transform, scale, .. } = args;
        if segment::is_meant(None, checkpoint, transform, scale.given())? {
            let loaded = segment::load(checkpoint, device)?;
            let resize = segment::test_resize(scale, loaded.info.resize);
            return Ok(Self::Segmentor(loaded, resize));
        }
        Ok(Self::Classifier(load(checkpoint, transform, device)?))
    }

    /// Whether there is attention that can be drawn.
    pub fn is_traceable(&self) -> bool {
        match self {
            Self::Classifier(loaded) => loaded.model.backbone.config.is_traceable(),
            Self::Segmentor(loaded, _) => loaded.model.backbone.config().is_traceable(),
        }
    }

    /// Those of a stage, counted from 0.
    pub fn attentions(&self, stage: usize) -> Vec<&Attention> {
        match self {
            Self::Classifier(loaded) => {
                let blocks = &loaded.model.backbone.stages[stage].blocks;
                blocks.iter().map(|block| &block.attn).collect()
            }
            Self::Segmentor(loaded, _) => loaded.model.backbone.attentions(stage),
        }
    }

    pub fn name(&self) -> String {
        match self {
            Self::Classifier(loaded) => loaded.info.model.clone(),
            Self::Segmentor(loaded, _) => {
                format!("{} on {}", loaded.info.method, loaded.info.model)
            }
        }
    }

    /// Where a pixel lies in what the model sees, from the left and from above, in 0..1; else why not.
    pub fn locate(&self, [x, y]: [u32; 2], picture: &RgbImage) -> Result<[f64; 2], String> {
        let size = picture.dimensions();
        let middle = [x, y].map(|pixel| f64::from(pixel) + 0.5);
        let (place, [[left, right], [top, bottom]]) = match self {
            Self::Classifier(loaded) => {
                let transform = &loaded.info.transform;
                (transform.locate(middle, size), transform.seen(size))
            }
            Self::Segmentor(..) => {
                let place = [middle[0] / f64::from(size.0), middle[1] / f64::from(size.1)];
                (place, [[0, size.0 - 1], [0, size.1 - 1]])
            }
        };
        let is_seen = place.iter().all(|along| (0.0..1.0).contains(along));
        is_seen.then_some(place).ok_or_else(|| {
            format!("it sees {left} to {right} from the left and {top} to {bottom} from above")
        })
    }

    /// What the model sees of a picture, with so many pixels along the longer side.
    pub fn seen(&self, picture: &RgbImage, side: u32) -> RgbImage {
        match self {
            Self::Classifier(loaded) => {
                let transform = &loaded.info.transform;
                EvalTransform { img_size: side as usize, ..*transform }.apply_u8(picture)
            }
            Self::Segmentor(..) => {
                let (width, height) = picture.dimensions();
                let scale = f64::from(side) / f64::from(width.max(height));
                let [width, height] = [width, height]
                    .map(|pixels| ((f64::from(pixels) * scale).round() as u32).max(1));
                resize(picture, width, height, Filter::Bicubic, None)
            }
        }
    }

    /// A forward pass.
    pub fn look(
        &self,
        picture: &RgbImage,
        query: [f64; 2],
        device: &Device,
    ) -> Result<Look, Error> {
        let input = |normalize: &Normalize, picture: &RgbImage| {
            let shape = [1, 3, picture.height() as usize, picture.width() as usize];
            Tensor::from_data(TensorData::new(normalize.apply(picture), shape), device)
        };
        match self {
            Self::Classifier(loaded) => {
                let transform = &loaded.info.transform;
                let input = input(&transform.normalize, &transform.apply_u8(picture));
                let ([.., c5], traces) = loaded.model.backbone.forward_traced(input);
                let Prediction { class, probability } =
                    best_classes(loaded.model.classify(c5), 1)[0][0];
                let class = class_label(&loaded.info.classes[class]).to_owned();
                Ok(Look { class, probability, stages: attention_maps(traces) })
            }
            Self::Segmentor(loaded, resize) => {
                check_size(resize.size(picture.dimensions(), 1.0))?;
                let input = input(&Normalize::IMAGENET, &resize.apply(picture, 1.0));
                let (maps, traces) = loaded.model.backbone.forward_traced(input);
                let logits = loaded.model.decode(maps);
                let (class, probability) = class_at(logits, query);
                let class = loaded.info.classes[class].clone();
                Ok(Look { class, probability, stages: attention_maps(traces) })
            }
        }
    }
}

/// Of the only picture.
fn attention_maps(traces: [Vec<AttentionTrace>; 4]) -> [Vec<AttentionMaps>; 4] {
    traces.map(|blocks| blocks.iter().map(|trace| AttentionMaps::new(trace, 0)).collect())
}

/// The best class of the cell at a place, and its probability.
///
/// # Shapes
/// - logits: `[1, classes, height, width]`
fn class_at(logits: Tensor<4>, [x, y]: [f64; 2]) -> (usize, f32) {
    let [_, _, height, width] = logits.dims();
    let (row, column) = ((y * height as f64) as usize, (x * width as f64) as usize);
    let cell = logits.narrow(2, row, 1).narrow(3, column, 1);
    let probabilities = softmax(cell, 1).into_data_as::<f32>();
    let probabilities: Vec<f32> = probabilities.try_into_vec().expect("float32 probabilities");
    let best = probabilities.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map(|(class, &probability)| (class, probability)).expect("a class")
}

/// The traces of all blocks are in memory together.
fn check_size((width, height): (u32, u32)) -> Result<(), Error> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= MAX_WINDOW_PIXELS {
        return Ok(());
    }
    let reason = format!(
        "the model would see {width}x{height} pixels, the limit is {MAX_WINDOW_PIXELS}; lower the scale"
    );
    Err(Error::option("img-scale", reason))
}
