//! Dropout of whole channels.

use burn::module::Module;
use burn::tensor::Tensor;

use super::drop_path::drop_some;

/// Drops each channel of each picture with probability `rate` in training, and scales those that
/// stay by 1 / (1 − rate): PyTorch's `Dropout2d`, which the heads of mmsegmentation have.
#[derive(Module, Debug)]
pub struct ChannelDropout {
    #[module(skip)]
    rate: f64,
}

impl ChannelDropout {
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn new(rate: f64) -> Self {
        assert!((0.0..1.0).contains(&rate), "dropout rate must be in [0, 1), got {rate}");
        Self { rate }
    }

    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: like `x`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [.., channels] = x.dims();
        if self.rate > 0.0 && x.is_autodiff() { drop_some(x, self.rate, channels) } else { x }
    }
}
