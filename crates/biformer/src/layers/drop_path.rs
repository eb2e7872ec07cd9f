//! Stochastic depth (Huang et al., 2016): in training, a residual branch is dropped for whole
//! pictures.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use super::batch_part::batch_part;

/// Drops the branch of a picture with probability `rate` and scales the others by
/// 1 / (1 − rate). The identity outside of training.
#[derive(Module, Debug)]
pub struct DropPath {
    #[module(skip)]
    rate: f64,
}

impl DropPath {
    /// # Panics
    /// If `rate` is not in `[0, 1)`.
    pub fn new(rate: f64) -> Self {
        assert!((0.0..1.0).contains(&rate), "drop path rate must be in [0, 1), got {rate}");
        Self { rate }
    }

    /// Probability of dropping the branch of a picture.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether branches can be dropped: in training, if the rate is not 0.
    pub fn is_active(&self, x: &Tensor<4>) -> bool {
        self.rate > 0.0 && x.is_autodiff()
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if self.is_active(&x) { drop_some(x, self.rate, 1) } else { x }
    }
}

/// Each picture, or each of its `channels`, dropped with probability `rate` and else scaled by
/// 1 / (1 − rate).
pub(super) fn drop_some(x: Tensor<4>, rate: f64, channels: usize) -> Tensor<4> {
    let keep = 1.0 - rate;
    let [batch, ..] = x.dims();
    let mask = draw_mask([batch, channels], keep, &x.device().inner());
    x * Tensor::from_inner(mask / keep)
}

/// 1 with probability `keep`, else 0, for each picture and channel; if processes share the batch, they
/// all draw for all of it, so that a picture's number does not depend on how many there are.
///
/// # Shapes
/// - output: `[batch, 1, 1, channels]`
fn draw_mask([batch, channels]: [usize; 2], keep: f64, device: &Device) -> Tensor<4> {
    let draw = |of| Tensor::random([of, 1, 1, channels], Distribution::Bernoulli(keep), device);
    match batch_part() {
        None => draw(batch),
        Some(part) => {
            let places: Vec<i64> = part.places.iter().map(|&place| place as i64).collect();
            let places = TensorData::new(places, [batch]);
            draw(part.of).select(0, Tensor::<1, Int>::from_data(places, device))
        }
    }
}

/// The rate of each block: linear over depth from 0 to `rate`, as `torch.linspace` in float32.
pub fn drop_path_rates(rate: f64, blocks: usize) -> Vec<f64> {
    let (end, steps) = (rate as f32, blocks.saturating_sub(1));
    let step = if steps == 0 { 0.0 } else { end / steps as f32 };
    // torch counts from the nearer end, so that both ends are exact.
    let value = |i: usize| match i < blocks / 2 {
        true => step * i as f32,
        false => end - step * (steps - i) as f32,
    };
    match blocks {
        1 => vec![0.0],
        _ => (0..blocks).map(|i| f64::from(value(i))).collect(),
    }
}
