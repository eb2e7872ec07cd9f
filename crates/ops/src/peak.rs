//! The most that the processor can compute: fused multiply-adds on registers, no memory at all.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::simd::{Simd, WithSimd, dispatch, mul_add};

/// Multiply-adds of each sum in a repeat: a fraction of a millisecond, so that some repeats are
/// not interrupted even on a busy machine.
const STEPS: usize = 1 << 16;
/// Repeats go on this long.
const BUDGET: Duration = Duration::from_millis(200);

/// GFLOP/s in float32 that `threads` threads reach together, with the instruction set in use
/// ([`instruction_set`](crate::instruction_set)); a multiply-add counts as two.
///
/// All threads compute at the same time, the best repeat of each counts: other programs only
/// slow it down. Threads beyond the number of processors add nothing.
///
/// # Panics
/// If the system does not give that many threads.
pub fn peak_gflops(threads: usize) -> f64 {
    let threads = available_parallelism().map_or(threads, |most| threads.min(most.get()));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let barrier = Barrier::new(threads);
    let of_each = pool.broadcast(|_| {
        barrier.wait();
        peak_of_this_thread()
    });
    of_each.iter().sum()
}

fn peak_of_this_thread() -> f64 {
    let start = Instant::now();
    let mut best = 0.0;
    while best == 0.0 || start.elapsed() < BUDGET {
        let repeat = Instant::now();
        let operations = dispatch(MultiplyAdds);
        best = f64::max(best, operations as f64 / repeat.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Returns how many operations it did.
struct MultiplyAdds;

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        // Each sum has a name, because the compiler would keep an array of them in memory.
        // Twelve hide the latency of the widest processors and fit the registers of the smallest.
        macro_rules! run {
            ($($sum:ident)*) => {{
                let mut sums = 0;
                // Of unknown numbers the compiler can compute nothing in advance.
                let factor = simd.splat_f32s(black_box(0.5));
                let term = simd.splat_f32s(black_box(1.0));
                $(
                    sums += 1;
                    let mut $sum = simd.splat_f32s(black_box(sums as f32));
                )*
                for _ in 0..STEPS {
                    $($sum = mul_add(simd, $sum, factor, term);)*
                }
                $(black_box($sum);)*
                2 * sums * STEPS * S::F32_LANES
            }};
        }
        run!(s0 s1 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between a slow emulator and more than any core has: 0.01 and 1000 GFLOP/s.
    #[test]
    fn one_thread_has_a_plausible_peak() {
        let peak = peak_gflops(1);
        assert!((0.01..1000.0).contains(&peak), "{peak} GFLOP/s");
    }
}
