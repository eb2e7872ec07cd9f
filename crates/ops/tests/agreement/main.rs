//! Fused operators against their definitions: outputs and gradients, on shapes that do not fit
//! vectors, on slices of wider maps, and for any number of threads.

mod attention;
mod autocast;
mod batch_norm;
mod bf16;
mod biased_attention;
mod depthwise_conv;
mod gelu;
mod layer_norm;
#[path = "../numbers/mod.rs"]
mod numbers;
mod products;
mod resample;
mod roi_align;
mod routing;
mod threads;

use std::cell::Cell;

use burn::tensor::{Device, Tensor};
use numbers::{numbers, values};

/// Both sides sum 25 products a value in float32, in another order: 25 roundings of 6e-8, and
/// headroom for the gradient of the weights, which sums over the whole map.
const SUMS: f64 = 2e-5;

/// Nearly normal numbers of variance 1: others with each call, but the same in each run of a test, so that
/// a sum of them that happens to cancel does so always or never.
fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    thread_local! {
        static SEED: Cell<u64> = const { Cell::new(1) };
    }
    let seed = SEED.replace(SEED.get() + 3);
    let [a, b, c] = [0, 1, 2].map(|i| numbers(shape, seed + i, &Device::default()));
    a + b + c
}

fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>, bound: f64) {
    assert_close_to(what, found, expected, bound, 1e-3);
}

/// As [`assert_close`], where a tensor of less than `smallest` counts as that.
fn assert_close_to<const D: usize>(
    what: &str,
    found: Tensor<D>,
    expected: Tensor<D>,
    bound: f64,
    smallest: f32,
) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let scale = expected.iter().fold(smallest, |max: f32, x| max.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        let error = f64::from((f - e).abs() / scale);
        assert!(error <= bound, "{what}[{i}]: got {f}, expected {e}");
    }
}
