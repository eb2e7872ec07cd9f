//! Relative position bias: a learned number for each head and each offset between two tokens of a
//! window (Eq. 4 of Swin, <https://arxiv.org/abs/2103.14030>; MaxViT has the same).

use burn::module::{Initializer, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A fresh table for windows of `size × size` tokens, whose tokens lie up to `size − 1` apart.
///
/// # Shapes
/// - output: `[(2 * size - 1)², num_heads]`
pub(super) fn new_table(size: usize, num_heads: usize, device: &Device) -> Param<Tensor<2>> {
    let offsets = (2 * size - 1).pow(2);
    Initializer::Normal { mean: 0.0, std: 0.02 }.init([offsets, num_heads], device)
}

/// B: what the table has for the offset of each query of a window from each key.
///
/// # Shapes
/// - table: `[(2 * size - 1)², num_heads]`
/// - output: `[1, num_heads, size², size²]`
pub(super) fn window_bias(table: Tensor<2>, size: usize) -> Tensor<4> {
    let (side, tokens) = (2 * size - 1, size * size);
    let row = |query: usize, key: usize| {
        // From 0: the query may lie before the key.
        let along_y = query / size + size - 1 - key / size;
        let along_x = query % size + size - 1 - key % size;
        along_y * side + along_x
    };
    let rows = (0..tokens).flat_map(|query| (0..tokens).map(move |key| row(query, key)));
    select_bias(table, rows.collect(), [tokens, tokens])
}

/// # Shapes
/// - table: `[offsets, num_heads]`
/// - rows: of the table, for each query and key
/// - output: `[1, num_heads, queries, keys]`
pub(super) fn select_bias(
    table: Tensor<2>,
    rows: Vec<usize>,
    [queries, keys]: [usize; 2],
) -> Tensor<4> {
    let [_, num_heads] = table.dims();
    let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
    let rows =
        Tensor::<1, Int>::from_data(TensorData::new(rows, [queries * keys]), &table.device());
    table.select(0, rows).swap_dims(0, 1).reshape([1, num_heads, queries, keys])
}
