//! Attention as the papers write it: query by query, in float64.

use burn::tensor::{Device, Tensor, TensorData};

use super::values;

/// A token: row and column.
pub type Place = [usize; 2];

/// A map as numbers.
pub struct Map {
    pub size: [usize; 2],
    pub channels: usize,
    data: Vec<f64>,
}

impl Map {
    /// One picture.
    ///
    /// # Shapes
    /// - x: `[batch, height, width, channels]`
    pub fn of(x: &Tensor<4>, picture: usize) -> Self {
        let [_, height, width, channels] = x.dims();
        let data = values(x.clone().narrow(0, picture, 1)).into_iter().map(f64::from).collect();
        Self { size: [height, width], channels, data }
    }

    pub fn zeros(size: [usize; 2], channels: usize) -> Self {
        Self { size, channels, data: vec![0.0; size[0] * size[1] * channels] }
    }

    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let [height, width] = self.size;
        (0..height * width).map(move |token| [token / width, token % width])
    }

    pub fn token(&self, [y, x]: Place) -> &[f64] {
        &self.data[(y * self.size[1] + x) * self.channels..][..self.channels]
    }

    pub fn token_mut(&mut self, [y, x]: Place) -> &mut [f64] {
        &mut self.data[(y * self.size[1] + x) * self.channels..][..self.channels]
    }

    /// Between tokens, with zeros around the map.
    pub fn bilinear(&self, [y, x]: [f64; 2], channel: usize) -> f64 {
        let share = |place: f64, token: usize| (1.0 - (place - token as f64).abs()).max(0.0);
        let part =
            |place: Place| share(y, place[0]) * share(x, place[1]) * self.token(place)[channel];
        self.places().map(part).sum()
    }
}

/// The pictures as one tensor.
pub fn stack(maps: Vec<Map>) -> Tensor<4> {
    let [height, width] = maps[0].size;
    let shape = [maps.len(), height, width, maps[0].channels];
    let data: Vec<f32> =
        maps.into_iter().flat_map(|map| map.data).map(|number| number as f32).collect();
    Tensor::from_data(TensorData::new(data, shape), &Device::default())
}

/// Σ softmax(q · k / √d + bias) v over the keys for which `bias(head, query, key)` says something.
pub fn attend(
    [query, key, value]: [&Map; 3],
    num_heads: usize,
    bias: impl Fn(usize, Place, Place) -> Option<f64>,
) -> Map {
    let mut output = Map::zeros(query.size, query.channels);
    let head_dim = query.channels / num_heads;
    for place in query.places() {
        for head in 0..num_heads {
            let channels = head * head_dim..(head + 1) * head_dim;
            let q = &query.token(place)[channels.clone()];
            let logit = |other: Place| {
                let k = &key.token(other)[channels.clone()];
                let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                Some((other, product / (head_dim as f64).sqrt() + bias(head, place, other)?))
            };
            let logits: Vec<_> = key.places().filter_map(logit).collect();
            let sum: f64 = logits.iter().map(|(_, logit)| logit.exp()).sum();
            for (other, logit) in logits {
                let weight = logit.exp() / sum;
                let attended = &mut output.token_mut(place)[channels.clone()];
                let v = &value.token(other)[channels.clone()];
                attended.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * v);
            }
        }
    }
    output
}

/// [`attend`] of each picture.
///
/// # Shapes
/// - qkv: `[batch, height, width, 3 * channels]`
/// - output: `[batch, height, width, channels]`
pub fn attend_masked(
    qkv: Tensor<4>,
    num_heads: usize,
    bias: impl Fn(usize, Place, Place) -> Option<f64>,
) -> Tensor<4> {
    let [batch, .., channels] = qkv.dims();
    let part = |i: usize| qkv.clone().narrow(3, i * (channels / 3), channels / 3);
    let maps = (0..batch).map(|picture| {
        let [q, k, v] = [0, 1, 2].map(|i| Map::of(&part(i), picture));
        attend([&q, &k, &v], num_heads, &bias)
    });
    stack(maps.collect())
}

/// A depthwise convolution that sees neighbours on the map alone for which `sees(token, neighbour)`.
///
/// # Shapes
/// - weight: `[channels, 1, kernel_size, kernel_size]`
/// - bias: `[channels]`
pub fn depthwise(
    map: &Map,
    weight: Tensor<4>,
    bias: Tensor<1>,
    sees: impl Fn(Place, Place) -> bool,
) -> Map {
    let [_, _, side, _] = weight.dims();
    let (weight, bias) = (values(weight), values(bias));
    let mut output = Map::zeros(map.size, map.channels);
    for place in map.places() {
        for (channel, bias) in bias.iter().enumerate() {
            let mut sum = f64::from(*bias);
            for neighbour in map.places().filter(|neighbour| sees(place, *neighbour)) {
                let tap = [0, 1].map(|i| (neighbour[i] + side / 2).wrapping_sub(place[i]));
                if tap.iter().all(|tap| *tap < side) {
                    let tap = weight[(channel * side + tap[0]) * side + tap[1]];
                    sum += f64::from(tap) * map.token(neighbour)[channel];
                }
            }
            output.token_mut(place)[channel] = sum;
        }
    }
    output
}
