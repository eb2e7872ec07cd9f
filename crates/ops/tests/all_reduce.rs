//! Sums over processes, with threads in their place.

mod numbers;

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use biformer_ops::{Reducer, all_reduce};
use burn::tensor::{Device, Tensor};
use numbers::{assert_close, numbers, values};

const PROCESSES: usize = 3;

/// A reducer for as many threads.
fn reducer() -> Reducer {
    let sums = Arc::new(Mutex::new(Vec::new()));
    let barrier = Barrier::new(PROCESSES);
    Reducer::new(move |numbers| {
        {
            let mut sums = sums.lock().expect("no panic");
            sums.resize(numbers.len(), 0.0f32);
            sums.iter_mut().zip(numbers.iter()).for_each(|(sum, number)| *sum += number);
        }
        barrier.wait();
        numbers.copy_from_slice(&sums.lock().expect("no panic"));
        if barrier.wait().is_leader() {
            sums.lock().expect("no panic").clear();
        }
        barrier.wait();
    })
}

/// What process `rank` makes of its input and of the sum, twice, so that the second sum
/// depends on the first.
fn loss(x: Tensor<2>, rank: usize, sum: impl Fn(Tensor<2>) -> Tensor<2>) -> Tensor<1> {
    let mean = sum(x.clone()) / PROCESSES as f32;
    let variance = sum((x.clone() - mean.clone()).square());
    let own = numbers([1, 2, 3, 1], 50 + rank as u64, &x.device()).reshape([2, 3]);
    ((x - mean) / (variance + 1.0).sqrt() * own).sum()
}

/// Against a process that knows all inputs and adds them up itself. All is near 1 in size, and
/// differs by the order of sums of three numbers: a few float32 roundings of 6e-8.
#[test]
fn the_gradient_is_that_of_the_sum_of_all_losses() {
    let device = Device::default().autodiff();
    let inputs: [Tensor<2>; PROCESSES] = std::array::from_fn(|rank| {
        let numbers = numbers([1, 2, 3, 1], rank as u64, &Device::default());
        Tensor::from_data(numbers.reshape([2, 3]).into_data(), &device).require_grad()
    });
    let total = |inputs: &[Tensor<2>; PROCESSES]| {
        let [a, b, c] = inputs.clone();
        let mean = (a + b + c) / PROCESSES as f32;
        let square = |x: &Tensor<2>| (x.clone() - mean.clone()).square();
        let variance = square(&inputs[0]) + square(&inputs[1]) + square(&inputs[2]);
        let losses = inputs.iter().enumerate().map(|(rank, x)| {
            let own = numbers([1, 2, 3, 1], 50 + rank as u64, &x.device()).reshape([2, 3]);
            ((x.clone() - mean.clone()) / (variance.clone() + 1.0).sqrt() * own).sum()
        });
        losses.reduce(|a, b| a + b).expect("three")
    };
    let gradients = total(&inputs).backward();
    let expected = inputs.each_ref().map(|x| values(x.grad(&gradients).expect("a gradient")));

    let reducer = reducer();
    let found = thread::scope(|scope| {
        let processes = std::array::from_fn::<_, PROCESSES, _>(|rank| {
            let (reducer, device) = (reducer.clone(), &device);
            let x = inputs[rank].clone().inner().into_data();
            scope.spawn(move || {
                let x = Tensor::<2>::from_data(x, device).require_grad();
                let gradients = loss(x.clone(), rank, |x| all_reduce(x, &reducer)).backward();
                values(x.grad(&gradients).expect("a gradient"))
            })
        });
        processes.map(|process| process.join().expect("no panic"))
    });
    for (rank, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_close(&format!("process {rank}"), found, expected, 1e-6);
    }
}

#[test]
fn without_gradients_it_is_a_sum() {
    let twice = Reducer::new(|numbers| numbers.iter_mut().for_each(|number| *number *= 2.0));
    let x = numbers([2, 1, 3, 1], 1, &Device::default());
    // A view whose numbers do not lie side by side.
    let turned = x.clone().permute([2, 1, 0, 3]);
    assert_eq!(values(all_reduce(turned.clone(), &twice)), values(turned * 2.0));
}
