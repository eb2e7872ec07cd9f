//! The definition, in plain tensor operations.

use burn::tensor::{Tensor, activation::softmax};

use super::BiasedAttentionOptions;

pub(super) fn biased_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    &BiasedAttentionOptions { num_heads, scale }: &BiasedAttentionOptions,
) -> Tensor<4> {
    let [batch, windows, queries, channels] = query.dims();
    let [_, _, keys, _] = key.dims();
    let heads = |x: Tensor<4>, tokens: usize| {
        x.reshape([batch * windows, tokens, num_heads, channels / num_heads]).swap_dims(1, 2)
        // [batch * windows, num_heads, tokens, head_dim]
    };
    let query = heads(query, queries) * scale;
    let mut logits = query.matmul(heads(key, keys).swap_dims(2, 3));
    if let Some(bias) = bias {
        let by_window = logits.reshape([batch, windows, num_heads, queries, keys]);
        let biased = by_window + bias.unsqueeze::<5>();
        logits = biased.reshape([batch * windows, num_heads, queries, keys]);
    }
    let attended = softmax(logits, 3).matmul(heads(value, keys)).swap_dims(1, 2);
    attended.reshape([batch, windows, queries, channels])
}
