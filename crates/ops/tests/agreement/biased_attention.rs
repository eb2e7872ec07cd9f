//! Windows under a bias: fused against the definition.

use biformer_ops::{BiasedAttentionOptions, biased_attention, biased_attention_reference};
use burn::tensor::{Tensor, s};

use crate::{SUMS, assert_close, random};

/// What keeps a query from a key.
const MASKED: f32 = -1e4;

/// Batch, windows, queries, keys, heads and channels of a head: more queries than a block has, fewer keys
/// than a vector, one of each.
const SHAPES: [[usize; 6]; 5] = [
    [2, 3, 49, 49, 2, 16],
    [1, 1, 101, 7, 3, 20],
    [3, 2, 5, 169, 1, 33],
    [2, 1, 1, 1, 2, 1],
    [1, 20, 8, 16, 4, 8],
];

fn options(num_heads: usize, head_dim: usize) -> BiasedAttentionOptions {
    BiasedAttentionOptions { num_heads, scale: (head_dim as f64).powf(-0.5) }
}

#[test]
fn biased_attention_has_outputs_and_gradients_of_its_definition() {
    for [batch, windows, queries, keys, num_heads, head_dim] in SHAPES {
        let channels = num_heads * head_dim;
        let options = options(num_heads, head_dim);
        let inputs = [queries, keys, keys].map(|tokens| random([batch, windows, tokens, channels]));
        let coefficients = random([batch, windows, queries, channels]);
        let biases = [
            None,
            Some([windows, num_heads, queries, keys]),
            Some([1, num_heads, queries, keys]),
            Some([windows, 1, 1, keys]),
            Some([1, num_heads, 1, keys]),
        ];
        for bias in biases {
            let bias = bias.map(random);
            let run = |fused: bool| {
                let inputs = inputs.clone().map(|x| x.autodiff().require_grad());
                let bias = bias.clone().map(|x| x.autodiff().require_grad());
                let [query, key, value] = inputs.clone();
                let operator = if fused { biased_attention } else { biased_attention_reference };
                let output = operator(query, key, value, bias.clone(), &options);
                let gradients = (output.clone() * coefficients.clone().autodiff()).sum().backward();
                let gradient = |x: &Tensor<4>| x.grad(&gradients).expect("a gradient");
                let all = inputs.iter().chain(&bias).map(gradient);
                [output.inner()].into_iter().chain(all).collect::<Vec<_>>()
            };
            let what = format!(
                "{batch} × {windows} windows, {queries} × {keys}, {num_heads} × {head_dim}, {:?}",
                bias.as_ref().map(Tensor::dims)
            );
            for (i, (found, expected)) in run(true).into_iter().zip(run(false)).enumerate() {
                assert_close(&format!("{what}, {i}"), found, expected, SUMS);
            }
        }
    }
}

/// Q, K and V as slices of one map, and masked keys: their weight is 0, and that of a query without any other is not
/// NaN.
#[test]
fn biased_attention_reads_slices_and_masks() {
    let qkv = random([2, 4, 9, 3 * 24]);
    let [query, key, value] = [0, 1, 2].map(|i| qkv.clone().narrow(3, 24 * i, 24));
    let mask = Tensor::<4>::zeros([4, 1, 9, 9], &qkv.device());
    let mask = mask.slice_fill(s![.., .., 1.., 5..], MASKED);
    let mask = mask.slice_fill(s![3, .., .., ..], MASKED);
    let run = |value: Tensor<4>, operator: fn(_, _, _, _, &_) -> Tensor<4>| {
        operator(query.clone(), key.clone(), value, Some(mask.clone()), &options(3, 8))
    };
    let found = run(value.clone(), biased_attention);
    assert_close("masked", found.clone(), run(value.clone(), biased_attention_reference), SUMS);
    let other = value.slice_fill(s![..3, .., 5.., ..], 1e6);
    let seen = |x: Tensor<4>| x.slice(s![.., ..3, 1.., ..]);
    assert_close("not attended to", seen(run(other, biased_attention)), seen(found), 0.0);
}
