//! Processes that MPI joins.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence};

use super::{Link, World};
use crate::data::Shard;
use crate::{Error, Result};

/// Numbers in one call of MPI: an all-reduce needs a second buffer of that length.
const BUCKET: usize = 4 << 20;

/// MPI between its start and its end; locked, because it allows one caller at a time.
struct Mpi(Mutex<Option<Universe>>);

/// The world of `MPI_COMM_WORLD`.
pub(super) fn open() -> Result<World> {
    let error = |reason: &str| Error::Processes(format!("MPI {reason}"));
    let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
        .ok_or_else(|| error("runs already in this process"))?;
    if threading < Threading::Serialized {
        return Err(error("was built without threads; take one that has MPI_THREAD_SERIALIZED"));
    }
    let world = universe.world();
    let shard = Shard { rank: world.rank() as usize, size: world.size() as usize };
    Ok(World::new(shard, Arc::new(Mpi(Mutex::new(Some(universe))))))
}

impl Mpi {
    fn lock(&self) -> MutexGuard<'_, Option<Universe>> {
        // A panic in another thread leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum<T: Equivalence + Copy + Default>(&self, numbers: &mut [T]) {
        let universe = self.lock();
        let world = universe.as_ref().expect("no sums after leave").world();
        let mut sums = vec![T::default(); numbers.len().min(BUCKET)];
        for bucket in numbers.chunks_mut(BUCKET) {
            let sums = &mut sums[..bucket.len()];
            world.all_reduce_into(&*bucket, sums, SystemOperation::sum());
            bucket.copy_from_slice(sums);
        }
    }
}

impl Link for Mpi {
    fn sum_f32(&self, numbers: &mut [f32]) {
        self.sum(numbers);
    }

    fn sum_f64(&self, numbers: &mut [f64]) {
        self.sum(numbers);
    }

    fn abort(&self, code: i32) {
        // Without the lock: another thread may hold it and wait for a process that is gone.
        SimpleCommunicator::world().abort(code);
    }

    fn leave(&self) {
        drop(self.lock().take()); // MPI_Finalize
    }
}
