//! Tokens made of others: sub-sampled, deformable, quad-tree.

use biformer::attention::{
    BlockAttention, DatAttention, DeformableAttention, DeformableConfig, GlobalSubSampledConfig,
    QuadTreeAttention, QuadTreeConfig, SpatiallySeparableAttention, SubSampling, ValueBranch,
    WindowAttentionConfig,
};
use biformer::weights::{KeyStyle, load_state_dict, state_dict};
use biformer_ops::gelu;
use burn::tensor::Tensor;

use super::definition::{Map, Place, attend, attend_masked, depthwise, stack};
use super::{BATCH, DIM, HEADS, SIZES, assert_close, disturbed, map, values};

#[test]
fn locally_grouped() {
    for size in SIZES {
        let config = WindowAttentionConfig::new(DIM, HEADS).with_window_size(3);
        let module = disturbed(config.init(&Default::default()));
        let qkv = module.qkv.forward(map(size));
        let window = |place: Place| place.map(|i| i / 3);
        let attended = attend_masked(qkv, HEADS, |_, q, k| (window(q) == window(k)).then_some(0.0));
        let expected = module.output.forward(attended);
        let module = SpatiallySeparableAttention::LocallyGrouped(module);
        assert_close(&format!("{size:?}"), BlockAttention::forward(&module, map(size)), expected);
    }
}

/// A convolution of each whole cell, a layer norm, and all tokens attend to what comes out.
#[test]
fn global_sub_sampled() {
    for sr_ratio in [1, 2] {
        for size in SIZES {
            let config = GlobalSubSampledConfig::new(DIM, HEADS, sr_ratio);
            let module = disturbed(config.init(&Default::default()));
            let x = map(size);
            let representatives = match &module.sub_sampling {
                None => x.clone(),
                Some(SubSampling { sr, norm }) => {
                    let bias = sr.bias.as_ref().expect("a bias").val();
                    let maps = (0..BATCH).map(|picture| {
                        patches(&Map::of(&x, picture), sr_ratio, sr.weight.val(), bias.clone())
                    });
                    norm.forward(stack(maps.collect()))
                }
            };
            let (query, kv) = (module.q.forward(x.clone()), module.kv.forward(representatives));
            let [key, value] = [0, 1].map(|i| kv.clone().narrow(3, i * DIM, DIM));
            let attended = (0..BATCH).map(|picture| {
                let [q, k, v] = [&query, &key, &value].map(|x| Map::of(x, picture));
                attend([&q, &k, &v], HEADS, |_, _, _| Some(0.0))
            });
            let expected = module.output.forward(stack(attended.collect()));
            assert_close(&format!("{size:?}, {sr_ratio}"), module.forward(x), expected);
        }
    }
}

/// A map smaller than a cell has one representative, of what is there and zeros.
#[test]
fn a_small_map_has_one_representative() {
    let module = disturbed(GlobalSubSampledConfig::new(DIM, HEADS, 4).init(&Default::default()));
    let x = map([2, 3]);
    let padded = x.clone().pad([(0, 0), (0, 2), (0, 1), (0, 0)], 0.0);
    let Some(SubSampling { sr, norm }) = &module.sub_sampling else { panic!("cells of 4 × 4") };
    let bias = sr.bias.as_ref().expect("a bias").val();
    let representative = (0..BATCH)
        .map(|picture| patches(&Map::of(&padded, picture), 4, sr.weight.val(), bias.clone()));
    let kv = module.kv.forward(norm.forward(stack(representative.collect())));
    let expected = module.output.forward(kv.narrow(3, DIM, DIM)); // all weight on the one value
    assert_close("2 × 3", module.forward(x), expected.repeat_dim(1, 2).repeat_dim(2, 3));
}

/// A convolution whose kernels do not overlap; what is left over at the end is not seen.
///
/// # Shapes
/// - weight: `[channels_out, channels, size, size]`
fn patches(map: &Map, size: usize, weight: Tensor<4>, bias: Tensor<1>) -> Map {
    let [channels_out, channels, ..] = weight.dims();
    let (weight, bias) = (values(weight), values(bias));
    let mut output = Map::zeros(map.size.map(|side| side / size), channels_out);
    for [y, x] in output.places() {
        for (out, bias) in bias.iter().enumerate() {
            let mut sum = f64::from(*bias);
            for channel in 0..channels {
                for tap in 0..size * size {
                    let (row, col) = (tap / size, tap % size);
                    let weight = weight[(out * channels + channel) * size * size + tap];
                    sum += f64::from(weight) * map.token([size * y + row, size * x + col])[channel];
                }
            }
            output.token_mut([y, x])[out] = sum;
        }
    }
    output
}

const TABLE: usize = 5;

/// The same offset for all points of all groups: the depthwise convolution is switched off, so that the norm
/// gives its β, of which one channel is 1, and GELU(1) times the last weights is what tanh sees.
fn with_offset(offset: [f64; 2]) -> DeformableAttention {
    let config = DeformableConfig::new(DIM, HEADS, 2, 3, TABLE);
    let module = disturbed(config.init(&Default::default()));
    let mut weights = state_dict(&module, KeyStyle::Stl);
    for (key, tensor) in &mut weights {
        let channels = DIM / 2;
        match key.as_str() {
            "offsets.depthwise.weight" | "offsets.depthwise.bias" => tensor.data.fill(0.0),
            "offsets.normalize.bias" => {
                tensor.data = (0..channels).map(|channel| f32::from(channel == 0)).collect();
            }
            "offsets.project.weight" => {
                assert_eq!(tensor.shape, [2, channels]);
                // 1 / 2 (1 + erf(1 / √2))
                let last = offset.map(|offset| (offset.atanh() / 0.841_344_746) as f32);
                let weight =
                    |i: usize| if i.is_multiple_of(channels) { last[i / channels] } else { 0.0 };
                tensor.data = (0..2 * channels).map(weight).collect();
            }
            _ => {}
        }
    }
    load_state_dict(module, weights, KeyStyle::Stl).expect("its own keys")
}

/// Without offsets every token attends to all tokens, as they are; half a token down and a quarter to the left,
/// to what lies there between them.
#[test]
fn deformable() {
    for offset in [[0.0, 0.0], [0.5, -0.25]] {
        let module = with_offset(offset);
        let table = module.rpe_table.val().permute([1, 2, 0]).unsqueeze::<4>();
        let table = Map::of(&table, 0); // [9, 9, heads]
        for size in [[5, 5], [4, 7], [1, 3]] {
            let x = map(size);
            let point = |place: Place| [0, 1].map(|i| place[i] as f64 + offset[i]);
            let sampled = (0..BATCH).map(|picture| {
                let x = Map::of(&x, picture);
                let mut sampled = Map::zeros(size, DIM);
                for place in x.places() {
                    for channel in 0..DIM {
                        sampled.token_mut(place)[channel] = x.bilinear(point(place), channel);
                    }
                }
                sampled
            });
            let kv = module.kv.forward(stack(sampled.collect()));
            let query = module.q.forward(x.clone());
            let [key, value] = [0, 1].map(|i| kv.clone().narrow(3, i * DIM, DIM));
            let bias = |head: usize, query: Place, key: Place| {
                let point = point(key);
                let place = [0, 1].map(|i| {
                    let stretch = (TABLE - 1) as f64 / (size[i] - 1).max(1) as f64;
                    let stretch = if size[i] > 1 { stretch } else { 1.0 };
                    (query[i] as f64 - point[i]) * stretch + (TABLE - 1) as f64
                });
                Some(table.bilinear(place, head))
            };
            let attended = (0..BATCH).map(|picture| {
                let [q, k, v] = [&query, &key, &value].map(|x| Map::of(x, picture));
                attend([&q, &k, &v], HEADS, bias)
            });
            let expected = module.output.forward(stack(attended.collect()));
            let what = format!("{size:?}, {offset:?}");
            assert_close(&what, DatAttention::Deformable(module.clone()).forward(x), expected);
        }
    }
}

/// Level by level in loops: the coarsest cells attend to all, and each token to the children of the K keys that
/// its cell weighed most.
#[test]
fn quad_tree() {
    for (levels, topk) in [(1, 8), (2, 1), (2, 3), (3, 2)] {
        for size in SIZES {
            let mut config = QuadTreeConfig::new(DIM, HEADS, levels);
            config.topk = topk;
            let module = disturbed(config.init(&Default::default()));
            let found = module.forward(map(size));
            let expected = quad_tree_by_loops(&module, map(size));
            assert_close(&format!("{size:?}, {levels}, {topk}"), found, expected);
        }
    }
}

fn quad_tree_by_loops(module: &QuadTreeAttention, x: Tensor<4>) -> Tensor<4> {
    let QuadTreeConfig { levels, topk, .. } = module.config;
    let [_, height, width, _] = x.dims();
    let cell = 1 << (levels - 1);
    let [below, right] = [height, width].map(|side| side.next_multiple_of(cell) - side);
    let qkv = module.qkv.forward(x).pad([(0, 0), (0, below), (0, right), (0, 0)], 0.0);
    let [query, key, value] = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * DIM, DIM));
    let mut values_of_levels = vec![value];
    for branch in &module.value_branches {
        values_of_levels
            .push(coarser_value(branch, values_of_levels[values_of_levels.len() - 1].clone()));
    }
    let logits = values(module.level_weights.val());
    let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp() / sum).collect();

    let of_picture = |picture: usize| {
        let (mut query, mut key) = (vec![Map::of(&query, picture)], vec![Map::of(&key, picture)]);
        for level in 1..levels {
            query.push(means(&query[level - 1]));
            key.push(means(&key[level - 1]));
        }
        let mut output = Map::zeros([height, width], DIM);
        // For each head and cell of the level above the children that it hands down.
        let mut candidates: Option<Vec<Vec<Vec<Place>>>> = None;
        for level in (0..levels).rev() {
            let value = Map::of(&values_of_levels[level], picture);
            let size = value.size;
            let is_padding = |[y, x]: Place| (y << level) >= height || (x << level) >= width;
            let allowed = |head: usize, query: Place, key: Place| match &candidates {
                None => !is_padding(key),
                Some(candidates) => {
                    let cell = query[0] / 2 * (size[1] / 2) + query[1] / 2;
                    candidates[head][cell].contains(&key) && !is_padding(key)
                }
            };
            let (q, k) = (&query[level], &key[level]);
            let message = attend([q, k, &value], HEADS, |head, query, key| {
                allowed(head, query, key).then_some(0.0)
            });
            let lepe = &module.lepe[level];
            let lepe = depthwise(&value, lepe.weight.val(), lepe.bias.val(), |_, _| true);
            for place in output.places() {
                let above = place.map(|i| i >> level);
                for channel in 0..DIM {
                    let found = message.token(above)[channel] + lepe.token(above)[channel];
                    output.token_mut(place)[channel] += weights[level] * found;
                }
            }
            let best = (0..HEADS).map(|head| {
                let of_cell = |place: Place| {
                    let channels = head * DIM / HEADS..(head + 1) * DIM / HEADS;
                    let score = |key: &Place| -> f64 {
                        let q = &q.token(place)[channels.clone()];
                        q.iter().zip(&k.token(*key)[channels.clone()]).map(|(q, k)| q * k).sum()
                    };
                    let mut keys: Vec<Place> =
                        k.places().filter(|key| allowed(head, place, *key)).collect();
                    keys.sort_by(|a, b| score(b).total_cmp(&score(a)));
                    keys.truncate(topk);
                    let children = |[y, x]: Place| {
                        [[0, 0], [0, 1], [1, 0], [1, 1]]
                            .map(|[down, right]| [2 * y + down, 2 * x + right])
                    };
                    keys.into_iter().flat_map(children).collect()
                };
                q.places().map(of_cell).collect()
            });
            candidates = Some(best.collect());
        }
        output
    };
    module.output.forward(stack((0..BATCH).map(of_picture).collect()))
}

/// Means of 2 × 2 tokens.
fn means(map: &Map) -> Map {
    let mut coarse = Map::zeros(map.size.map(|side| side / 2), map.channels);
    for place in map.places() {
        for channel in 0..map.channels {
            let number = map.token(place)[channel];
            coarse.token_mut(place.map(|i| i / 2))[channel] += number / 4.0;
        }
    }
    coarse
}

/// Norm over a whole picture, GELU, 2 × 2 convolution, norm, GELU, linear layer.
fn coarser_value(branch: &ValueBranch, value: Tensor<4>) -> Tensor<4> {
    let normalized = |norm: &burn::nn::GroupNorm, x: Tensor<4>| {
        let [batch, height, width, channels] = x.dims();
        let flat = x.reshape([batch, height * width * channels]);
        let centred = flat.clone() - flat.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let x = (centred / (variance + 1e-5).sqrt()).reshape([batch, height, width, channels]);
        let [gamma, beta] = [&norm.gamma, &norm.beta]
            .map(|x| x.as_ref().expect("affine").val().reshape([1, 1, 1, channels]));
        x * gamma + beta
    };
    let fine = gelu(normalized(&branch.norm_fine, value));
    let bias = branch.halve.bias.as_ref().expect("a bias").val();
    let coarse = (0..BATCH).map(|picture| {
        patches(&Map::of(&fine, picture), 2, branch.halve.weight.val(), bias.clone())
    });
    let coarse = stack(coarse.collect());
    branch.mix.forward(gelu(normalized(&branch.norm_coarse, coarse)))
}
