//! Processes that are threads of a test.

use std::sync::{Arc, Barrier, Mutex};

use biformer::distributed::Link;

/// Sums over threads.
pub struct Threads {
    sums: Mutex<Vec<f64>>,
    barrier: Barrier,
}

impl Threads {
    /// Of so many threads.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { sums: Mutex::default(), barrier: Barrier::new(size) })
    }
}

impl Link for Threads {
    fn sum_f32(&self, numbers: &mut [f32]) {
        let mut wide: Vec<f64> = numbers.iter().map(|&number| number.into()).collect();
        self.sum_f64(&mut wide);
        numbers.iter_mut().zip(wide).for_each(|(number, sum)| *number = sum as f32);
    }

    fn sum_f64(&self, numbers: &mut [f64]) {
        let sums = || self.sums.lock().expect("no panic");
        {
            let mut sums = sums();
            sums.resize(numbers.len(), 0.0);
            sums.iter_mut().zip(numbers.iter()).for_each(|(sum, number)| *sum += number);
        }
        self.barrier.wait();
        numbers.copy_from_slice(&sums());
        if self.barrier.wait().is_leader() {
            sums().clear();
        }
        self.barrier.wait();
    }

    fn abort(&self, code: i32) {
        panic!("aborted with {code}");
    }

    fn leave(&self) {}
}
