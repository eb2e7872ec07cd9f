//! The attention mechanisms of Table 5: each equal to attention under the mask of its paper, written out query by
//! query; gradients; parameters and multiply-accumulates; models, and Swin's weights.

mod costs;
mod definition;
mod gradients;
mod lines;
mod models;
#[path = "../numbers/mod.rs"]
mod numbers;
mod sampled;
mod timm;
mod windows;

use crate::numbers::number;
use biformer::weights::{KeyStyle, load_state_dict, state_dict};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

/// Whole windows of 3 × 3 tokens; not whole; less than a window along one side.
const SIZES: [[usize; 2]; 3] = [[6, 9], [7, 5], [2, 8]];
const BATCH: usize = 2;
const DIM: usize = 16;
const HEADS: usize = 2;

fn numbers<const D: usize>(shape: [usize; D], seed: usize, device: &Device) -> Tensor<D> {
    let data: Vec<f32> = (0..shape.iter().product()).map(|i| number(seed, i)).collect();
    Tensor::from_data(TensorData::new(data, shape), device)
}

fn map([height, width]: [usize; 2]) -> Tensor<4> {
    numbers([BATCH, height, width, DIM], 7, &Device::default())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32")
}

/// Weights that keep the size of numbers, the same in each run and not those of the start, where attention is
/// nearly a mean.
fn disturbed<M: Module>(module: M) -> M {
    let mut weights = state_dict(&module, KeyStyle::Stl);
    for (seed, (key, tensor)) in weights.iter_mut().enumerate() {
        let fan_in: usize = tensor.shape[1..].iter().product();
        let (scale, middle) = match tensor.shape.len() {
            1 if key.ends_with("weight") || key.contains("running_var") => (0.4, 1.0),
            1 => (0.4, 0.0),
            _ if key.ends_with("table") => (1.0, 0.0),
            _ if key.contains("qkv") || key.starts_with("q.") => {
                ((12.0 / fan_in as f32).sqrt(), 0.0)
            }
            _ => ((3.0 / fan_in as f32).sqrt(), 0.0),
        };
        for (i, value) in tensor.data.iter_mut().enumerate() {
            *value = middle + scale * number(seed, i);
        }
    }
    load_state_dict(module, weights, KeyStyle::Stl).expect("its own keys")
}

/// Float32 sums of some tens of terms are good to 1e-6 of the largest, and a softmax of logits up to 10 to ten
/// times that.
fn assert_close(what: &str, found: Tensor<4>, expected: Tensor<4>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let largest = expected.iter().fold(0.1f32, |max, x| max.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error < 1e-5 * largest, "{what}: element {i} is {found}, expected {expected}");
    }
}
