//! Feature map ⇄ regions, and the padding rules for sizes that do not divide (paper §3.2,
//! "Region partition").

use burn::tensor::{Bool, Device, Tensor, TensorData, ops::PadMode};

/// How a feature map of `height × width` tokens is cut into `rows × cols` regions.
///
/// Tokens are padded on the right and below until the grid fits; [`RegionGrid::pad`] and
/// [`RegionGrid::crop`] do and undo that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionGrid {
    /// Height of the map before padding, in tokens.
    pub height: usize,
    /// Width of the map before padding, in tokens.
    pub width: usize,
    /// Regions in a column of the map.
    pub rows: usize,
    /// Regions in a row of the map.
    pub cols: usize,
    /// Height of one region, in tokens.
    pub region_height: usize,
    /// Width of one region, in tokens.
    pub region_width: usize,
}

impl RegionGrid {
    /// The rule of the released T, S, B and STL models (`auto_pad` in `bra_legacy.py`):
    /// exactly `n_win` regions a side, each of `ceil(size / n_win)` tokens.
    ///
    /// # Panics
    /// If a size or `n_win` is zero.
    pub fn pad_first(height: usize, width: usize, n_win: usize) -> Self {
        assert_grid(height, width, n_win);
        let (region_height, region_width) = (height.div_ceil(n_win), width.div_ceil(n_win));
        Self { height, width, rows: n_win, cols: n_win, region_height, region_width }
    }

    /// The rule of STL-nchw (`bra_nchw.py`): regions of `floor(size / n_win)` tokens a side,
    /// as many as it takes, so that odd sizes give more than `n_win` regions a side.
    ///
    /// A map smaller than the region grid gets regions of one token (the official code
    /// divides by zero there).
    ///
    /// # Panics
    /// If a size or `n_win` is zero.
    pub fn floor(height: usize, width: usize, n_win: usize) -> Self {
        assert_grid(height, width, n_win);
        let (region_height, region_width) = ((height / n_win).max(1), (width / n_win).max(1));
        let (rows, cols) = (height.div_ceil(region_height), width.div_ceil(region_width));
        Self { height, width, rows, cols, region_height, region_width }
    }

    /// Windows of `size × size` tokens, as many as it takes.
    ///
    /// # Panics
    /// If a size is zero.
    pub fn windows(height: usize, width: usize, size: usize) -> Self {
        assert_grid(height, width, size);
        let (rows, cols) = (height.div_ceil(size), width.div_ceil(size));
        Self { height, width, rows, cols, region_height: size, region_width: size }
    }

    /// Regions in the map, the paper's S².
    pub fn regions(&self) -> usize {
        self.rows * self.cols
    }

    /// Tokens in one region, the paper's HW / S².
    pub fn tokens(&self) -> usize {
        self.region_height * self.region_width
    }

    /// Height and width of the map after padding, in tokens.
    pub fn padded_size(&self) -> [usize; 2] {
        [self.rows * self.region_height, self.cols * self.region_width]
    }

    /// Whether padding adds tokens.
    pub fn is_padded(&self) -> bool {
        self.padded_size() != [self.height, self.width]
    }

    /// Zero tokens added on the right and below until the grid fits.
    ///
    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    /// - output: `[batch, rows * region_height, cols * region_width, channels]`
    pub fn pad(&self, x: Tensor<4>) -> Tensor<4> {
        let [padded_height, padded_width] = self.padded_size();
        let [_, height, width, _] = x.dims();
        if [height, width] == [padded_height, padded_width] {
            return x;
        }
        let padding = [(0, 0), (0, padded_height - height), (0, padded_width - width), (0, 0)];
        x.pad(padding, PadMode::Constant(0.0))
    }

    /// The map without the tokens that [`RegionGrid::pad`] added.
    ///
    /// # Shapes
    /// - x: `[batch, rows * region_height, cols * region_width, channels]`
    /// - output: `[batch, height, width, channels]`
    pub fn crop(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        if [height, width] == [self.height, self.width] {
            return x;
        }
        x.slice([0..batch, 0..self.height, 0..self.width, 0..channels])
    }

    /// A padded map as a sequence of regions, each a sequence of tokens (both row-major).
    ///
    /// # Shapes
    /// - x: `[batch, rows * region_height, cols * region_width, channels]`
    /// - output: `[batch, regions, tokens, channels]`
    pub fn partition(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, _, channels] = x.dims();
        let Self { rows, cols, region_height, region_width, .. } = *self;
        x.reshape([batch, rows, region_height, cols, region_width, channels])
            .permute([0, 1, 3, 2, 4, 5]) // [batch, rows, cols, region_height, region_width, channels]
            .reshape([batch, rows * cols, region_height * region_width, channels])
    }

    /// The inverse of [`RegionGrid::partition`].
    ///
    /// # Shapes
    /// - x: `[batch, regions, tokens, channels]`
    /// - output: `[batch, rows * region_height, cols * region_width, channels]`
    pub fn merge(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, _, channels] = x.dims();
        let Self { rows, cols, region_height, region_width, .. } = *self;
        x.reshape([batch, rows, cols, region_height, region_width, channels])
            .permute([0, 1, 3, 2, 4, 5]) // [batch, rows, region_height, cols, region_width, channels]
            .reshape([batch, rows * region_height, cols * region_width, channels])
    }

    /// Which tokens of each region are padding.
    ///
    /// # Shapes
    /// - output: `[regions, tokens]`
    pub fn padding_mask(&self, device: &Device) -> Tensor<2, Bool> {
        let mut is_padding = Vec::with_capacity(self.regions() * self.tokens());
        for region in 0..self.regions() {
            let (row, col) = (region / self.cols, region % self.cols);
            for token in 0..self.tokens() {
                let y = row * self.region_height + token / self.region_width;
                let x = col * self.region_width + token % self.region_width;
                is_padding.push(y >= self.height || x >= self.width);
            }
        }
        Tensor::from_data(TensorData::new(is_padding, [self.regions(), self.tokens()]), device)
    }
}

fn assert_grid(height: usize, width: usize, n_win: usize) {
    assert!(
        height > 0 && width > 0 && n_win > 0,
        "a region grid needs positive sizes, got a map of {height} × {width} tokens and n_win {n_win}"
    );
}
