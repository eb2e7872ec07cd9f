//! Attention with a bias for each query and key, window by window: what routed attention has no place for.

use biformer_ops::RegionGrid;
use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

/// Bias of a key that must not be attended to. Its weight is exactly 0; and unlike −∞ it leaves a query
/// without keys, which only padding can be, without NaN.
pub(super) const MASKED: f32 = -1e4;

/// softmax(Q Kᵀ / √head_dim + B) V, head by head, within each window.
///
/// # Shapes
/// - query: `[batch, windows, queries, channels]`
/// - key, value: `[batch, windows, keys, channels]`
/// - bias: `[windows, num_heads, queries, keys]`, or 1 in place of any of them
/// - output: like `query`
pub(super) fn biased_attention(
    [query, key, value]: [Tensor<4>; 3],
    bias: Option<Tensor<4>>,
    num_heads: usize,
) -> Tensor<4> {
    let [batch, windows, queries, channels] = query.dims();
    let [_, _, keys, _] = key.dims();
    let head_dim = channels / num_heads;
    let heads = |x: Tensor<4>, tokens: usize| {
        x.reshape([batch * windows, tokens, num_heads, head_dim]).swap_dims(1, 2)
        // [batch * windows, num_heads, tokens, head_dim]
    };
    let query = heads(query, queries) * (head_dim as f64).powf(-0.5);
    let mut logits = query.matmul(heads(key, keys).swap_dims(2, 3));
    if let Some(bias) = bias {
        let by_window = logits.reshape([batch, windows, num_heads, queries, keys]);
        let biased = by_window + bias.unsqueeze::<5>();
        logits = biased.reshape([batch * windows, num_heads, queries, keys]);
    }
    let attended = softmax(logits, 3).matmul(heads(value, keys)).swap_dims(1, 2);
    attended.reshape([batch, windows, queries, channels])
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
