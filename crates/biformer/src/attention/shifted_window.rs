//! Shifted windows (Swin; Liu et al., ICCV 2021, <https://arxiv.org/abs/2103.14030>).
//!
//! Windows of M × M tokens attend within themselves, with a relative position bias B (Eq. 4):
//!
//! Attention(Q, K, V) = SoftMax(Q Kᵀ / √d + B) V
//!
//! In every second block the windows lie ⌊M / 2⌋ tokens further down and right, so that neighbours meet
//! (Eq. 3). A cyclic shift of the map makes as many whole windows of them (§3.2, "efficient batch
//! computation"); a mask keeps apart what it brought together from opposite sides.
//!
//! The cost is 4HWC² + 2M²HWC multiply-accumulates (Eq. 2).

use biformer_ops::{Precision, RegionGrid, split_qkv};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::biased_attention::{biased_attention, mask};
use super::block_attention::{BlockAttention, BlockPlace, Part, head_dim};
use super::relative_position::{new_table, window_bias};
use crate::layers::Linear;

/// Configuration of [`ShiftedWindowAttention`].
#[derive(Config, Debug)]
pub struct ShiftedWindowConfig {
    /// Channels in and out.
    pub dim: usize,
    /// Heads; must divide `dim`.
    pub num_heads: usize,
    /// Tokens along a side of a window, the paper's M.
    #[config(default = 7)]
    pub window_size: usize,
    /// Whether the windows are shifted.
    #[config(default = false)]
    pub shifted: bool,
}

/// Attention within windows, shifted or not, with a relative position bias.
///
/// Where the map is no multiple of a window, zeros below and on the right fill up the last windows, and are
/// attended to by nobody. Along a side that one window covers, nothing is shifted.
#[derive(Module, Debug)]
pub struct ShiftedWindowAttention {
    /// Q, K and V in one projection.
    pub qkv: Linear,
    /// B by offset: `[(2 * window_size - 1)², num_heads]`
    pub relative_position_bias_table: Param<Tensor<2>>,
    /// Output projection.
    pub output: Linear,
    /// What it was built from.
    #[module(skip)]
    pub config: ShiftedWindowConfig,
}

impl ShiftedWindowConfig {
    /// # Panics
    /// If `num_heads` does not divide `dim`.
    pub fn init(&self, device: &Device) -> ShiftedWindowAttention {
        let Self { dim, num_heads, window_size, .. } = *self;
        head_dim(dim, num_heads);
        ShiftedWindowAttention {
            qkv: Linear::new(dim, 3 * dim, true, device),
            relative_position_bias_table: new_table(window_size, num_heads, device),
            output: Linear::new(dim, dim, true, device),
            config: self.clone(),
        }
    }
}

impl BlockAttention for ShiftedWindowAttention {
    fn new(place: &BlockPlace, device: &Device) -> Self {
        let config = ShiftedWindowConfig::new(place.dim, place.num_heads);
        config.with_shifted(place.is_second()).init(device)
    }

    fn num_heads(&self) -> usize {
        self.config.num_heads
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let ShiftedWindowConfig { num_heads, window_size, .. } = self.config;
        let grid = RegionGrid::windows(height, width, window_size);
        let [down, right] = self.shift(&grid).map(|shift| shift as i64);

        let qkv = grid.pad(self.qkv.forward(x)).roll(&[-down, -right], &[1, 2]);
        let qkv = split_qkv(grid.partition(qkv)); // each [batch, windows, tokens, dim]
        let table = self.relative_position_bias_table.val();
        let mut bias = window_bias(table, window_size); // [1, num_heads, tokens, tokens]
        if let Some(mask) = self.mask(&grid, &bias.device()) {
            bias = bias + mask;
        }
        let attended = grid.merge(biased_attention(qkv, Some(bias), num_heads));
        self.output.forward(grid.crop(attended.roll(&[down, right], &[1, 2])))
    }

    fn for_inference(self, precision: Precision) -> Self {
        let [qkv, output] = [self.qkv, self.output].map(|linear| linear.for_inference(precision));
        Self { qkv, output, ..self }
    }

    fn parts(&self, [height, width]: [usize; 2]) -> Vec<(&'static str, Part<'_>)> {
        let ShiftedWindowConfig { dim, window_size, .. } = self.config;
        let grid = RegionGrid::windows(height, width, window_size);
        let (tokens, padded) = (height * width, grid.regions() * grid.tokens());
        let table = self.relative_position_bias_table.lazy_shape().num_elements();
        vec![
            ("qkv", Part::Linear(&self.qkv, tokens)),
            ("relative_position_bias_table", Part::Parameters(table)),
            ("attention", Part::Attention { pairs: padded * grid.tokens(), tokens: padded, dim }),
            ("output", Part::Linear(&self.output, tokens)),
        ]
    }
}

impl ShiftedWindowAttention {
    /// Tokens by which the map is shifted up and left.
    fn shift(&self, grid: &RegionGrid) -> [usize; 2] {
        let shift = if self.config.shifted { self.config.window_size / 2 } else { 0 };
        [grid.rows, grid.cols].map(|windows| if windows > 1 { shift } else { 0 })
    }

    /// Keeps queries of each window to keys from the same side of the map, and from padding; `None` if
    /// there is nothing to keep from.
    ///
    /// # Shapes
    /// - output: `[windows, 1, tokens, tokens]`
    fn mask(&self, grid: &RegionGrid, device: &Device) -> Option<Tensor<4>> {
        let shift = self.shift(grid);
        if shift == [0, 0] && !grid.is_padded() {
            return None;
        }
        let (size, padded) = (self.config.window_size, grid.padded_size());
        // Where a token of a window was before the shift, and whether it came around, down and right.
        let place = |window: usize, token: usize| {
            let shifted = [
                window / grid.cols * size + token / size + shift[0],
                window % grid.cols * size + token % size + shift[1],
            ];
            [0, 1].map(|i| (shifted[i] % padded[i], shifted[i] >= padded[i]))
        };
        let may_attend = |window, query, key| {
            let ([query_y, query_x], [key_y, key_x]) = (place(window, query), place(window, key));
            let is_padding = key_y.0 >= grid.height || key_x.0 >= grid.width;
            query_y.1 == key_y.1 && query_x.1 == key_x.1 && !is_padding
        };
        Some(mask([grid.regions(), grid.tokens(), grid.tokens()], may_attend, device))
    }
}
