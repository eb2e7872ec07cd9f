//! Rows, columns and stripes: axial, criss-cross, cross-shaped; and full attention.

use biformer::attention::{
    AxialAttentionConfig, Axis, BlockAttention, BlockPlace, CrissCrossConfig, CrossShapedConfig,
    FullAttention,
};
use burn::tensor::Tensor;

use super::definition::{Map, Place, attend_masked, depthwise, stack};
use super::{BATCH, DIM, HEADS, SIZES, assert_close, disturbed, map};

#[test]
fn rows_then_columns() {
    for (axis, along) in [(Axis::Row, 0), (Axis::Column, 1)] {
        for size in SIZES {
            let module =
                disturbed(AxialAttentionConfig::new(DIM, HEADS, axis).init(&Default::default()));
            let attended = attend_masked(module.qkv.forward(map(size)), HEADS, |_, q, k| {
                (q[along] == k[along]).then_some(0.0)
            });
            let expected = module.output.forward(attended);
            assert_close(&format!("{size:?}, {axis}"), module.forward(map(size)), expected);
        }
    }
}

#[test]
fn row_and_column_at_once() {
    for size in SIZES {
        let module = disturbed(CrissCrossConfig::new(DIM, HEADS).init(&Default::default()));
        let attended = attend_masked(module.qkv.forward(map(size)), HEADS, |_, q, k| {
            (q[0] == k[0] || q[1] == k[1]).then_some(0.0)
        });
        let expected = module.output.forward(attended);
        assert_close(&format!("{size:?}"), module.forward(map(size)), expected);
    }
}

/// Stripes one token wide, several, and all of the map; three heads make one a direction.
#[test]
fn cross_shaped_windows() {
    for (stripe_width, num_heads, halves) in [(Some(1), 2, 2), (Some(3), 4, 4), (None, 3, 2)] {
        for size in SIZES {
            let config = CrossShapedConfig::new(DIM, num_heads).with_stripe_width(stripe_width);
            let module = disturbed(config.init(&Default::default()));
            assert_eq!(module.num_heads(), halves);
            let stripe = |half: usize, place: Place| match (stripe_width, half) {
                (None, _) => 0,
                (Some(width), 0) => place[1] / width, // vertical
                (Some(width), _) => place[0] / width,
            };
            let qkv = module.qkv.forward(map(size));
            let attended = attend_masked(qkv.clone(), halves, |head, q, k| {
                let half = head / (halves / 2);
                (stripe(half, q) == stripe(half, k)).then_some(0.0)
            });
            let encoded = [0, 1].map(|half| {
                let value = qkv.clone().narrow(3, 2 * DIM + half * DIM / 2, DIM / 2);
                let lepe = &module.lepe[half];
                let encode = |picture| {
                    let value = Map::of(&value, picture);
                    let sees = |place, other| stripe(half, place) == stripe(half, other);
                    depthwise(&value, lepe.weight.val(), lepe.bias.val(), sees)
                };
                stack((0..BATCH).map(encode).collect())
            });
            let expected = module.output.forward(attended + Tensor::cat(encoded.to_vec(), 3));
            let what = format!("{size:?}, {stripe_width:?}");
            assert_close(&what, module.forward(map(size)), expected);
        }
    }
}

#[test]
fn all_tokens() {
    let place = BlockPlace { dim: DIM, num_heads: HEADS, stage: 0, block: 0 };
    for size in SIZES {
        let module: FullAttention = disturbed(BlockAttention::new(&place, &Default::default()));
        let qkv = module.qkv.forward(map(size));
        let expected = module.output.forward(attend_masked(qkv, HEADS, |_, _, _| Some(0.0)));
        assert_close(&format!("{size:?}"), module.forward(map(size)), expected);
    }
}
