//! Windows: shifted, sliding, blocks and grids.

use biformer::attention::{
    BlockAttention, BlockGridConfig, Partition, ShiftedWindowConfig, SlidingWindowConfig,
};
use burn::tensor::Tensor;

use super::definition::{Place, attend_masked};
use super::{DIM, HEADS, SIZES, assert_close, disturbed, map, values};

const WINDOW: usize = 3;

/// What a table has for an offset of query from key of −`most` to `most` along both axes.
fn bias_of(table: &Tensor<2>, most: usize) -> impl Fn(usize, Place, Place) -> f64 + use<> {
    let table = values(table.clone());
    move |head, query, key| {
        let [y, x] = [0, 1].map(|i| query[i] + most - key[i]);
        f64::from(table[(y * (2 * most + 1) + x) * HEADS + head])
    }
}

/// Windows of M tokens a side; shifted ones begin ⌊M / 2⌋ tokens later, and what is before is the first. Along a
/// side that one window covers, they are not shifted.
#[test]
fn shifted_windows() {
    for shifted in [false, true] {
        for size in SIZES {
            let config =
                ShiftedWindowConfig::new(DIM, HEADS).with_window_size(WINDOW).with_shifted(shifted);
            let module = disturbed(config.init(&Default::default()));
            let window = |place: Place| {
                [0, 1].map(|i| match shifted && size[i] > WINDOW {
                    true => (place[i] + WINDOW - WINDOW / 2) / WINDOW,
                    false => place[i] / WINDOW,
                })
            };
            let bias = bias_of(&module.relative_position_bias_table.val(), WINDOW - 1);
            let attended = attend_masked(module.qkv.forward(map(size)), HEADS, |head, q, k| {
                (window(q) == window(k)).then(|| bias(head, q, k))
            });
            let expected = module.output.forward(attended);
            assert_close(&format!("{size:?}, {shifted}"), module.forward(map(size)), expected);
        }
    }
}

/// Each token sees those at most ⌊M / 2⌋ rows and columns away.
#[test]
fn sliding_windows() {
    for size in SIZES {
        for window in [3, 5] {
            let config = SlidingWindowConfig::new(DIM, HEADS).with_window_size(window);
            let module = disturbed(config.init(&Default::default()));
            let radius = window / 2;
            let bias = bias_of(&module.relative_position_bias_table.val(), radius);
            let attended = attend_masked(module.qkv.forward(map(size)), HEADS, |head, q, k| {
                let sees = (0..2).all(|i| q[i].abs_diff(k[i]) <= radius);
                sees.then(|| bias(head, q, k))
            });
            let expected = module.output.forward(attended);
            assert_close(&format!("{size:?}, {window}"), module.forward(map(size)), expected);
        }
    }
}

/// Blocks of P × P tokens; grids of the tokens with the same place in P × P cells.
#[test]
fn blocks_and_grids() {
    for partition in [Partition::Block, Partition::Grid] {
        for size in SIZES {
            let config = BlockGridConfig::new(DIM, HEADS, partition).with_window_size(WINDOW);
            let module = disturbed(config.init(&Default::default()));
            let cell = size.map(|side| side.div_ceil(WINDOW));
            // The window, and the place in it.
            let split = |place: Place, i: usize| match partition {
                Partition::Block => (place[i] / WINDOW, place[i] % WINDOW),
                Partition::Grid => (place[i] % cell[i], place[i] / cell[i]),
            };
            let window = |place| [0, 1].map(|i| split(place, i).0);
            let within = |place| [0, 1].map(|i| split(place, i).1);
            let bias = bias_of(&module.relative_position_bias_table.val(), WINDOW - 1);
            let attended = attend_masked(module.qkv.forward(map(size)), HEADS, |head, q, k| {
                (window(q) == window(k)).then(|| bias(head, within(q), within(k)))
            });
            let expected = module.output.forward(attended);
            assert_close(&format!("{size:?}, {partition}"), module.forward(map(size)), expected);
        }
    }
}

/// A window as large as the map is full attention with a bias, shifted or not.
#[test]
fn one_window_is_not_shifted() {
    let config = ShiftedWindowConfig::new(DIM, HEADS).with_window_size(5);
    let plain = disturbed(config.clone().init(&Default::default()));
    let shifted = disturbed(config.with_shifted(true).init(&Default::default()));
    assert_close("5 × 5", shifted.forward(map([5, 5])), plain.forward(map([5, 5])));
}

#[test]
#[should_panic(expected = "window_size: got: 4, expected: odd")]
fn sliding_windows_have_a_middle() {
    SlidingWindowConfig::new(DIM, HEADS).with_window_size(4).init(&Default::default());
}

#[test]
#[should_panic(expected = "dim must be divisible by num_heads, got 16 channels and 3 heads")]
fn heads_divide_channels() {
    ShiftedWindowConfig::new(DIM, 3).init(&Default::default());
}
