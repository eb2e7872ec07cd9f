//! Attention with a bias for each query and key, window by window, and biases that mask.

use biformer_ops::{BiasedAttentionOptions, RegionGrid};
use burn::tensor::{Device, Tensor, TensorData};

/// Bias of a key that must not be attended to. Its weight is exactly 0; and unlike −∞ it leaves a query
/// without keys, which only padding can be, without NaN.
pub(super) const MASKED: f32 = -1e4;

/// softmax(Q Kᵀ / √head_dim + B) V, head by head, within each window.
///
/// # Shapes
/// As [`biformer_ops::biased_attention`].
pub(super) fn biased_attention(
    [query, key, value]: [Tensor<4>; 3],
    bias: Option<Tensor<4>>,
    num_heads: usize,
) -> Tensor<4> {
    let [.., channels] = query.dims();
    let scale = ((channels / num_heads) as f64).powf(-0.5);
    let options = BiasedAttentionOptions { num_heads, scale };
    biformer_ops::biased_attention(query, key, value, bias, &options)
}

/// 0 where `may_attend(window, query, key)`, else [`MASKED`].
///
/// # Shapes
/// - output: `[windows, 1, queries, keys]`
pub(super) fn mask(
    [windows, queries, keys]: [usize; 3],
    may_attend: impl Fn(usize, usize, usize) -> bool,
    device: &Device,
) -> Tensor<4> {
    let mut bias = Vec::with_capacity(windows * queries * keys);
    for window in 0..windows {
        for query in 0..queries {
            let bias_of = |key| if may_attend(window, query, key) { 0.0 } else { MASKED };
            bias.extend((0..keys).map(bias_of));
        }
    }
    Tensor::from_data(TensorData::new(bias, [windows, 1, queries, keys]), device)
}

/// [`MASKED`] for tokens that fill up the regions of the grid, `None` if there are none.
///
/// # Shapes
/// - output: `[regions, 1, 1, tokens]`
pub(super) fn padding_bias(grid: &RegionGrid, device: &Device) -> Option<Tensor<4>> {
    let (regions, tokens) = (grid.regions(), grid.tokens());
    grid.is_padded().then(|| {
        let bias = Tensor::<2>::zeros([regions, tokens], device);
        bias.mask_fill(grid.padding_mask(device), MASKED).reshape([regions, 1, 1, tokens])
    })
}
