//! Layers on parts of a batch do what they do on the whole, with threads in the place of processes.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use biformer::layers::{BatchPart, DropPath, batch_norm, with_batch_part};
use biformer_ops::Reducer;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Distribution, Tensor};

const CHANNELS: usize = 3;
const POSITIONS: usize = 4;

/// A reducer for `count` threads.
fn reducer(count: usize) -> Reducer {
    let (sums, barrier) = (Arc::new(Mutex::new(Vec::new())), Barrier::new(count));
    Reducer::new(move |numbers| {
        let sums = || sums.lock().expect("no panic");
        sums().resize(numbers.len(), 0.0f32);
        sums().iter_mut().zip(numbers.iter()).for_each(|(sum, number)| *sum += number);
        barrier.wait();
        numbers.copy_from_slice(&sums());
        if barrier.wait().is_leader() {
            sums().clear();
        }
        barrier.wait();
    })
}

/// Of a loss over `x`, weighted by `weights`: gradients of `x`, gamma and beta; then the running
/// mean and variance.
fn step(norm: &BatchNorm, x: Tensor<4>, weights: Tensor<4>) -> [Vec<f32>; 5] {
    let x = x.require_grad();
    let output = batch_norm(norm, x.clone());
    let gradients = (output.square() * weights).sum().backward();
    let gradient = |x: Tensor<1>| values(x.grad(&gradients).expect("a gradient"));
    [
        values(x.grad(&gradients).expect("a gradient")),
        gradient(norm.gamma.val()),
        gradient(norm.beta.val()),
        values(norm.running_mean.value_sync()),
        values(norm.running_var.value_sync()),
    ]
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data_as::<f32>().try_into_vec().expect("float32")
}

/// `count` pictures far from 0, as squares would cancel in a variance that is computed from them.
fn pictures(count: usize, device: &Device) -> Tensor<4> {
    let normal = Distribution::Normal(30.0, 1.0);
    let x = Tensor::<4>::random([count, 2, 2, CHANNELS], normal, device);
    Tensor::from_data(x.into_data(), &device.clone().autodiff())
}

/// The third process has no picture that could be read and takes part with a black one. Numbers
/// are near 1 and sums of 32 terms: 1e-4 are some roundings of values near 30.
#[test]
fn synchronised_batch_norm_of_parts_is_that_of_the_whole() {
    let device = Device::default();
    let init = || BatchNormConfig::new(CHANNELS).init(&device.clone().autodiff());
    let (x, weights) = (pictures(8, &device), pictures(8, &device) / 30.0);
    let whole = step(&init(), x.clone(), weights.clone());

    let parts = [0..3, 3..8, 0..1];
    let reducer = reducer(parts.len());
    let found = thread::scope(|scope| {
        let threads = parts.each_ref().map(|range| {
            let is_empty = range.len() == 1;
            let factor = if is_empty { 0.0 } else { 1.0 };
            let part = |x: &Tensor<4>| x.clone().slice([range.clone()]).detach() * factor;
            let (x, weights, norm, reducer) = (part(&x), part(&weights), init(), reducer.clone());
            let places = range.clone().collect();
            let part = BatchPart { places, of: 8, readable: 8, is_empty, sync_bn: Some(reducer) };
            scope.spawn(move || with_batch_part(Some(part), || step(&norm, x, weights)))
        });
        threads.map(|thread| thread.join().expect("no panic"))
    });

    let [first, second, third] = &found;
    close("x", &[first[0].as_slice(), &second[0]].concat(), &whole[0]);
    assert!(third[0].iter().all(|gradient| *gradient == 0.0), "black pictures: {:?}", third[0]);
    for (index, what) in [(1, "gamma"), (2, "beta")] {
        let sum = (0..CHANNELS).map(|i| found.iter().map(|process| process[index][i]).sum());
        close(what, &sum.collect::<Vec<f32>>(), &whole[index]);
    }
    for (index, what) in [(3, "running mean"), (4, "running variance")] {
        close(what, &first[index], &whole[index]);
        assert!(found.iter().all(|process| process[index] == first[index]), "{what} differs");
    }
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error < 1e-4, "{what}: {found}, expected {expected}");
    }
}

#[test]
fn an_empty_part_leaves_the_running_statistics_alone() {
    let device = Device::default().autodiff();
    let norm: BatchNorm = BatchNormConfig::new(CHANNELS).init(&device);
    let part = BatchPart { places: vec![0], of: 1, readable: 5, is_empty: true, sync_bn: None };
    let black = Tensor::zeros([1, 2, 2, CHANNELS], &device);
    with_batch_part(Some(part), || batch_norm(&norm, black.clone()));
    assert_eq!(values(norm.running_var.value_sync()), [1.0; CHANNELS]);
    batch_norm(&norm, black); // alone again
    assert!(values(norm.running_var.value_sync())[0] < 1.0);
}

#[test]
fn stochastic_depth_drops_the_same_pictures_in_parts() {
    let device = Device::default();
    let drop = |part: Option<BatchPart>, count: usize| {
        device.seed(5);
        let x = Tensor::ones([count, 2, 2, 1], &device.clone().autodiff());
        values(with_batch_part(part, || DropPath::new(0.5).forward(x)))
    };
    let whole = drop(None, 8);
    assert!(whole.contains(&0.0) && whole.contains(&2.0), "{whole:?}");
    for places in [vec![0, 1, 6, 7], vec![2, 3, 4, 5]] {
        let expected = places.iter().flat_map(|place| &whole[place * POSITIONS..][..POSITIONS]);
        let expected: Vec<f32> = expected.copied().collect();
        let part = BatchPart { places, of: 8, readable: 8, is_empty: false, sync_bn: None };
        assert_eq!(drop(Some(part), 4), expected);
    }
}
