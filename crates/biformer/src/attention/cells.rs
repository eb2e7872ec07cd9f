//! A map in groups of neighbours, and its cells of 2 × 2 tokens: how a quad tree goes up and down.

use burn::tensor::{Int, Tensor, kind::Basic};

/// A map cut into groups of neighbours.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    /// Groups along height and width.
    pub(super) rows_and_cols: [usize; 2],
    /// Tokens along height and width.
    pub(super) size: [usize; 2],
}

impl Cells {
    /// # Shapes
    /// - x: `[maps, height * width, n]`
    /// - output: `[maps, groups, tokens of a group, n]`
    pub(super) fn split(self, x: Tensor<3>) -> Tensor<4> {
        let [maps, tokens, n] = x.dims();
        let Self { rows_and_cols: [rows, cols], size: [height, width] } = self;
        x.reshape([maps, rows, height / rows, cols, width / cols, n])
            .permute([0, 1, 3, 2, 4, 5]) // [maps, rows, cols, height of a group, width of a group, n]
            .reshape([maps, rows * cols, tokens / (rows * cols), n])
    }

    /// The inverse of [`Cells::split`].
    pub(super) fn merge<K: Basic>(self, x: Tensor<4, K>) -> Tensor<3, K> {
        let [maps, _, _, n] = x.dims();
        let Self { rows_and_cols: [rows, cols], size: [height, width] } = self;
        x.reshape([maps, rows, cols, height / rows, width / cols, n])
            .permute([0, 1, 3, 2, 4, 5]) // [maps, rows, height of a group, cols, width of a group, n]
            .reshape([maps, height * width, n])
    }
}

/// The four tokens of each cell, on a map of twice the width and height.
///
/// # Shapes
/// - cells: `[maps, tokens, topk]`, of a map of `width` columns
/// - output: `[maps, tokens, 4 * topk]`
pub(super) fn children(cells: Tensor<3, Int>, width: usize) -> Tensor<3, Int> {
    let (width, row) = (width as i64, cells.clone() / width as i64);
    let col = cells - row.clone() * width;
    let first = row * (4 * width) + col * 2;
    let offsets = [0, 1, 2 * width, 2 * width + 1];
    Tensor::cat(offsets.map(|offset| first.clone() + offset).to_vec(), 2)
}

/// Means of 2 × 2 tokens.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, height / 2, width / 2, channels]`
pub(super) fn half_as_fine(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let x = x.reshape([batch, height / 2, 2, width / 2, 2, channels]);
    x.mean_dim(4).mean_dim(2).reshape([batch, height / 2, width / 2, channels])
}

/// Each token copied to 2 × 2.
///
/// # Shapes
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, 2 * height, 2 * width, channels]`
pub(super) fn twice_as_fine(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let x = x.reshape([batch, height, 1, width, 1, channels]);
    x.repeat_dim(2, 2).repeat_dim(4, 2).reshape([batch, 2 * height, 2 * width, channels])
}
