//! The definition: products with two matrices of weights.

use burn::tensor::{Device, Tensor, TensorData};

use super::Taps;

pub(super) fn resample(x: Tensor<4>, rows: &Taps, cols: &Taps) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let (new_height, new_width) = (rows.sums.len(), cols.sums.len());
    let device = x.device();
    let x = x.reshape([batch, height, width * channels]);
    let x = matrix(rows, &device).matmul(x); // [batch, new height, width * channels]
    let x = x.reshape([batch * new_height, width, channels]);
    let x = matrix(cols, &device).matmul(x); // [batch * new height, new width, channels]
    x.reshape([batch, new_height, new_width, channels])
}

/// `[1, new, old]`
fn matrix(taps: &Taps, device: &Device) -> Tensor<3> {
    let mut weights = vec![0.0; taps.sums.len() * taps.old];
    for (row, sum) in weights.chunks_exact_mut(taps.old).zip(&taps.sums) {
        sum.iter().for_each(|&(old, weight)| row[old] += weight);
    }
    Tensor::from_data(TensorData::new(weights, [1, taps.sums.len(), taps.old]), device)
}
