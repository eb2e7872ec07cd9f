//! Speed and memory of segmentors on a picture of noise.

use std::sync::atomic::AtomicBool;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::benchmark::rule;
use super::measure::{Work, measure};
use super::{Benchmark, LayerCost, Measurement, segmentor_costs};
use crate::data::RgbImage;
use crate::data::segmentation::TestResize;
use crate::segmentation::{
    Inference, MAX_WINDOW_PIXELS, Segmentor, SegmentorConfig, Slide, segment,
};
use crate::{Error, Result};

/// A picture through a segmentor with fresh weights, as `predict` does it: from pixels to the class of each, seen
/// whole or in windows; `None` if `stop` was set.
///
/// # Errors
/// [`Error::Option`] if an option is out of its range.
pub fn segmentor_inference(
    config: &SegmentorConfig,
    slide: Option<Slide>,
    options: &Benchmark,
    stop: &AtomicBool,
) -> Result<Option<Measurement>> {
    options.check_for_segmentor(slide)?;
    let &Benchmark { img_size, precision, ref device, .. } = options;
    options.in_pool(|| {
        let model = config.init(device);
        let work = Work { costs: costs(&model, img_size, slide), passes: 1 };
        let model = model.for_inference_in(precision);
        let forward = |x| model.forward(x);
        let (picture, inference) = (noise(img_size), at_its_size(img_size, slide));
        // Scores that are no numbers are an error in each run.
        measure(options, &work, stop, || segment(&forward, &picture, &inference, device).map(drop))
    })?
}

impl Benchmark {
    /// Whether [`segmentor_inference`] can take them, with these windows.
    ///
    /// # Errors
    /// [`Error::Option`] if one is out of its range.
    pub fn check_for_segmentor(&self, slide: Option<Slide>) -> Result<()> {
        let &Self { batch_size, img_size, .. } = self;
        self.check()?;
        let one = "1: segmentors see one picture at a time";
        rule("batch_size", [batch_size], |size| size == 1, one)?;
        rule("img_size", img_size, |side| (32..=10_000).contains(&side), "32 to 10000 pixels")?;
        at_its_size(img_size, slide).check()?;
        let [height, width] = window(img_size, slide);
        if (height * width) as u64 > MAX_WINDOW_PIXELS {
            let reason = format!(
                "the model would be given {height}x{width} pixels at once, the limit is \
                 {MAX_WINDOW_PIXELS}; slide a window of at most 2048"
            );
            return Err(Error::option("img_size", reason));
        }
        Ok(())
    }
}

/// Every layer for a picture, added up over its windows.
fn costs(model: &Segmentor, size: [usize; 2], slide: Option<Slide>) -> Vec<LayerCost> {
    let windows = slide.map_or(1, |slide| slide.windows(size));
    let mut costs = segmentor_costs(model, window(size, slide));
    for cost in &mut costs {
        cost.macs *= windows;
        cost.map_numbers *= windows;
    }
    costs
}

/// Height and width of what the model sees at once.
fn window(size: [usize; 2], slide: Option<Slide>) -> [usize; 2] {
    size.map(|side| slide.map_or(side, |slide| side.min(slide.crop_size)))
}

/// Pictures of this size are not resized.
fn at_its_size(size: [usize; 2], slide: Option<Slide>) -> Inference {
    let resize = TestResize { img_scale: size.map(|side| side as u32), size_divisor: 1 };
    Inference { slide, ..Inference::single_scale(resize) }
}

fn noise([height, width]: [usize; 2]) -> RgbImage {
    let mut picture = RgbImage::new(width as u32, height as u32);
    StdRng::seed_from_u64(0).fill_bytes(&mut picture);
    picture
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// 160 × 96 pixels are 3 × 2 windows of 64, each a stride of 48 after the one before.
    #[test]
    fn the_work_of_windows_adds_up() {
        let config = SegmentorConfig::from_names("biformer_pico", "linear").expect("known names");
        let model = config.init(&Device::default());
        let slide = Some(Slide { crop_size: 64, stride: 48 });
        let (one, all) = (segmentor_costs(&model, [64, 64]), costs(&model, [160, 96], slide));
        for (one, all) in one.iter().zip(&all) {
            assert_eq!(
                [all.params, all.macs, all.map_numbers],
                [one.params, 6 * one.macs, 6 * one.map_numbers],
                "{}",
                one.name
            );
        }
        assert_eq!(one.len(), all.len());
        assert_eq!(costs(&model, [160, 96], None), segmentor_costs(&model, [160, 96]));
    }
}
