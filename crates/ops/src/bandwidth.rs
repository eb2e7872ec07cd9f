//! The most that the memory can bring: the triad of STREAM (McCalpin), a = b + factor · c, on arrays
//! that no cache holds.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread::available_parallelism;
use std::time::Instant;

use rayon::ThreadPoolBuilder;

/// Bytes of the last cache where the system does not tell.
const CACHE: usize = 32 << 20;
/// Bytes of one array of all threads together, between a cache that is larger than thought and what a small
/// machine can spare three times.
const ARRAY: [usize; 2] = [64 << 20, 256 << 20];
/// Passes over the arrays.
const ROUNDS: usize = 12;

/// 10⁹ bytes a second that `threads` threads read and write together.
///
/// Each of the three arrays counts once, as each map of an operator does in a roofline: what the
/// processor reads because it is about to be overwritten does not. The best round counts: other
/// programs only slow it down. Takes three arrays of twice the last cache, 192 to 768 MiB. Threads
/// beyond the number of processors add nothing.
///
/// # Panics
/// If the system does not give that many threads.
pub fn memory_bandwidth(threads: usize) -> f64 {
    let threads = available_parallelism().map_or(threads, |most| threads.min(most.get()));
    let array = (2 * last_cache().unwrap_or(CACHE)).clamp(ARRAY[0], ARRAY[1]);
    let len = array / size_of::<f32>() / threads;
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let barrier = Barrier::new(threads);
    let of_threads = pool.broadcast(|_| {
        // Written here, so that they lie in the memory of this thread's processor.
        let [mut a, b, c] = [0.0, 1.0, 2.0].map(|value| vec![black_box(value); len]);
        let factor = black_box(0.5);
        [(); ROUNDS].map(|()| {
            barrier.wait();
            let start = Instant::now();
            for ((a, b), c) in a.iter_mut().zip(&b).zip(&c) {
                *a = b + factor * c;
            }
            black_box(&mut a);
            start.elapsed().as_secs_f64()
        })
    });
    // The slowest thread ends a round.
    let round = |round: usize| of_threads.iter().map(|seconds| seconds[round]).fold(0.0, f64::max);
    let best = (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min);
    (3 * len * threads * size_of::<f32>()) as f64 / best / 1e9
}

/// Bytes of the largest cache of the first processor; only Linux tells.
fn last_cache() -> Option<usize> {
    let caches = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let bytes = |cache: std::fs::DirEntry| {
        let size = std::fs::read_to_string(cache.path().join("size")).ok()?;
        let size = size.trim();
        let (digits, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit())?);
        let shift = match unit {
            "K" => 10,
            "M" => 20,
            _ => return None,
        };
        Some(digits.parse::<usize>().ok()? << shift)
    };
    caches.flatten().filter_map(bytes).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between a memory card and the stacked memory of an accelerator: 0.01 and 10,000 GB/s.
    #[test]
    fn one_thread_has_a_plausible_bandwidth() {
        let bandwidth = memory_bandwidth(1);
        assert!((0.01..1e4).contains(&bandwidth), "{bandwidth} GB/s");
    }
}
