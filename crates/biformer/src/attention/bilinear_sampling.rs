//! Tokens at places between tokens: the weighted sum of the four around (bilinear interpolation), with
//! gradients for map and places.

use burn::tensor::Tensor;

/// # Shapes
/// - x: `[maps, height, width, channels]`; beyond it there are zeros
/// - rows, cols: places in tokens, from 0 at the middle of the first, `[maps, points]`
/// - output: `[maps, points, channels]`
pub(super) fn bilinear_sample(x: Tensor<4>, rows: Tensor<2>, cols: Tensor<2>) -> Tensor<3> {
    let [maps, height, width, channels] = x.dims();
    let [_, points] = rows.dims();
    let tokens = x.reshape([maps, height * width, channels]);
    // The gradient of a place goes through the weights alone.
    let [first_row, first_col] = [&rows, &cols].map(|place| place.clone().detach().floor());
    let (below, right) = (rows - first_row.clone(), cols - first_col.clone());
    let corner = |down: usize, across: usize| {
        let row = first_row.clone() + down as f64;
        let col = first_col.clone() + across as f64;
        let weight = share(below.clone(), down) * share(right.clone(), across);
        let weight = weight * within(row.clone(), height) * within(col.clone(), width);
        let [row, col] =
            [(row, height), (col, width)].map(|(place, side)| place.clamp(0.0, (side - 1) as f64));
        let token = (row * width as f64 + col).int().reshape([maps, points, 1]);
        let sampled = tokens.clone().gather(1, token.repeat_dim(2, channels));
        sampled * weight.reshape([maps, points, 1])
    };
    corner(0, 0) + corner(0, 1) + corner(1, 0) + corner(1, 1)
}

/// Weight of the token before a place, or of the one behind it.
fn share(distance: Tensor<2>, behind: usize) -> Tensor<2> {
    if behind == 1 { distance } else { -distance + 1.0 }
}

/// 1 for places on a side of so many tokens, else 0.
fn within(place: Tensor<2>, side: usize) -> Tensor<2> {
    let last = (side - 1) as f64;
    place.clone().greater_equal_elem(0.0).float() * place.lower_equal_elem(last).float()
}
