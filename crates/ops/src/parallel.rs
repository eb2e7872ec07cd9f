//! Work cut into tasks for the threads of the current pool.

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use rayon::{Yield, current_thread_index, yield_now};

/// Pauses between two looks for a task.
const PAUSES: usize = 16;

/// Runs `work` on a thread of the pool while the others look for its tasks without falling asleep.
///
/// A network is a hundred operators of some tenths of a millisecond. Waking a thread for each of them
/// would take as long as what it computes; this is what OpenMP does between its loops.
pub fn keep_awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    /// Ends the watch, also if `work` panics.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let threads = rayon::current_num_threads();
    if threads == 1 {
        return work();
    }
    let done = AtomicBool::new(false);
    let done = &done;
    rayon::scope(|scope| {
        let owner = current_thread_index();
        for _ in 1..threads {
            scope.spawn(move |_| {
                // The owner may find this task while it waits: it must go on.
                while current_thread_index() != owner && !done.load(Ordering::Acquire) {
                    if yield_now() != Some(Yield::Executed) {
                        (0..PAUSES).for_each(|_| spin_loop());
                    }
                }
            });
        }
        let _end = End(done);
        work()
    })
}

/// Runs `task` for each number below `count`; in order on one thread, where a pool would
/// only cost.
pub(crate) fn for_each(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count == 1 || rayon::current_num_threads() == 1 {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().for_each(task);
    }
}

/// Runs `task` for each whole chunk of `len` values, with its number, in at most `tasks` tasks.
pub(crate) fn for_each_chunk<T: Send>(
    values: &mut [T],
    len: usize,
    tasks: usize,
    task: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let run = |(index, chunk): (usize, &mut [T])| task(index, chunk);
    if tasks == 1 {
        values.chunks_exact_mut(len).enumerate().for_each(run);
    } else {
        let least = (values.len() / len).div_ceil(tasks).max(1);
        values.par_chunks_exact_mut(len).with_min_len(least).enumerate().for_each(run);
    }
}

/// How many tasks to make of `work` multiply-adds (or operations as dear) if none may have less
/// than `least`.
///
/// The number depends on the threads: use it only where the cut cannot be seen in the result.
pub(crate) fn tasks(work: usize, least: usize) -> usize {
    match rayon::current_num_threads() {
        1 => 1,
        threads => (work / least).clamp(1, 4 * threads),
    }
}

/// Part `index` of `count` nearly equal parts of `0..total`.
#[inline(always)]
pub(crate) fn part(total: usize, count: usize, index: usize) -> Range<usize> {
    total * index / count..total * (index + 1) / count
}

/// A buffer of which each task writes its own part.
#[derive(Clone, Copy)]
pub(crate) struct Target(*mut f32);

// SAFETY: the tasks write disjoint parts; whoever dereferences the pointer says so.
#[allow(unsafe_code, reason = "threads share the pointer")]
unsafe impl Sync for Target {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "threads share the pointer")]
unsafe impl Send for Target {}

impl Target {
    pub(crate) fn new(first: *mut f32) -> Self {
        Self(first)
    }

    /// The number at `index`.
    pub(crate) fn at(&self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn sum(numbers: usize) -> usize {
        let sum = AtomicUsize::new(0);
        for_each(numbers, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        sum.into_inner()
    }

    /// Inside and outside of a pool, one in another, side by side: nobody waits for ever.
    #[test]
    fn work_is_done_while_threads_are_kept_awake() {
        for threads in 1..5 {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            for _ in 0..50 {
                let nested = || keep_awake(|| sum(100) + keep_awake(|| sum(10)));
                assert_eq!(pool.install(nested), 4995);
                let beside = || (0..3).into_par_iter().map(|_| nested()).sum::<usize>();
                assert_eq!(pool.install(|| keep_awake(beside)), 3 * 4995);
            }
        }
        assert_eq!(keep_awake(|| sum(5)), 10);
    }

    #[test]
    fn a_panic_ends_the_watch() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a pool");
        let work = || pool.install(|| keep_awake(|| panic!("of the work")));
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    }
}
