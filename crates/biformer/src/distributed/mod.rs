//! The processes of a run, and sums over them.
//!
//! Every process ("rank") runs the same program on its [shard](crate::data::Shard) of each batch.
//! All calls that add up wait for the other processes, which must make the same calls in the
//! same order. A [`World`] of one process waits for nobody and costs nothing.

#[cfg(feature = "mpi")]
mod mpi;

use std::fmt;
use std::sync::Arc;

use biformer_ops::Reducer;

use crate::data::Shard;
use crate::{Error, Result};

/// Set by Open MPI's `mpirun`, with the number of processes.
const MPIRUN_SIZE: &str = "OMPI_COMM_WORLD_SIZE";

/// What joins the processes; MPI, or threads in a test.
pub trait Link: Send + Sync {
    /// Adds up over all processes, in place.
    fn sum_f32(&self, numbers: &mut [f32]);
    /// Adds up over all processes, in place.
    fn sum_f64(&self, numbers: &mut [f64]);
    /// Ends all processes at once; this one with `code`.
    fn abort(&self, code: i32);
    /// Takes leave of the others, which must do so too.
    fn leave(&self);
}

/// The processes of a run.
#[derive(Clone, Default)]
pub struct World {
    shard: Shard,
    link: Option<Arc<dyn Link>>,
}

impl World {
    /// One process alone.
    pub fn single() -> Self {
        Self::default()
    }

    /// The processes that `mpirun` or Slurm's `srun` started, or one alone without them.
    ///
    /// # Errors
    /// [`Error::Processes`] if this build lacks the feature `mpi` that `mpirun` calls for, or MPI
    /// cannot start.
    pub fn open() -> Result<Self> {
        #[cfg(feature = "mpi")]
        {
            let launchers = [MPIRUN_SIZE, "PMIX_RANK", "PMI_RANK"];
            let launched = launchers.iter().any(|name| std::env::var_os(name).is_some());
            if launched { mpi::open() } else { Ok(Self::single()) }
        }
        #[cfg(not(feature = "mpi"))]
        {
            let size = std::env::var(MPIRUN_SIZE).ok().and_then(|size| size.parse().ok());
            if size.unwrap_or(1) > 1 {
                let reason = "started by mpirun, but MPI is not built in: build with `cargo build \
                              --release --features mpi`";
                return Err(Error::Processes(reason.to_owned()));
            }
            Ok(Self::single())
        }
    }

    /// Process `shard.rank` of `shard.size`, joined to the others by `link`.
    pub fn new(shard: Shard, link: Arc<dyn Link>) -> Self {
        Self { shard, link: Some(link) }
    }

    /// Which process this is.
    pub fn rank(&self) -> usize {
        self.shard.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.shard.size
    }

    /// Whether this process is the one that tells and writes.
    pub fn is_first(&self) -> bool {
        self.shard.rank == 0
    }

    /// The part of every batch that belongs to this process.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Adds up over all processes, in place; the sums are the same everywhere, bit for bit.
    pub fn sum_f32(&self, numbers: &mut [f32]) {
        if let Some(link) = self.others() {
            link.sum_f32(numbers);
        }
    }

    /// Adds up over all processes, in place; the sums are the same everywhere, bit for bit.
    pub fn sum_f64(&self, numbers: &mut [f64]) {
        if let Some(link) = self.others() {
            link.sum_f64(numbers);
        }
    }

    /// The sums over all processes.
    pub fn sum<const N: usize>(&self, mut numbers: [f64; N]) -> [f64; N] {
        self.sum_f64(&mut numbers);
        numbers
    }

    /// The sums over all processes; exact below 2⁵³.
    pub fn count<const N: usize>(&self, numbers: [usize; N]) -> [usize; N] {
        self.sum(numbers.map(|number| number as f64)).map(|sum| sum as usize)
    }

    /// Whether `flag` is set in any process.
    pub fn any(&self, flag: bool) -> bool {
        let [set] = self.count([usize::from(flag)]);
        set > 0
    }

    /// # Errors
    /// [`Error::Processes`], in all of them, if they do not have the same `hash` of `what`.
    pub fn agree(&self, what: &str, hash: u64) -> Result<()> {
        let hash = f64::from(hash as u32); // so that sums are exact
        let [sum] = self.sum([hash]);
        // If all had the mean, all would have the same.
        match self.any(sum != hash * self.size() as f64) {
            true => Err(Error::Processes(format!("do not have the same {what}"))),
            false => Ok(()),
        }
    }

    /// The sum over all processes as the operators take it; `None` of one alone.
    pub fn reducer(&self) -> Option<Reducer> {
        let link = self.others()?.clone();
        Some(Reducer::new(move |numbers| link.sum_f32(numbers)))
    }

    /// Ends all processes at once, this one with `code`; of one alone it does nothing.
    pub fn abort(&self, code: i32) {
        if let Some(link) = self.others() {
            link.abort(code);
        }
    }

    /// Takes leave of the others, before the program ends; waits until they do.
    pub fn leave(&self) {
        if let Some(link) = &self.link {
            link.leave();
        }
    }

    fn others(&self) -> Option<&Arc<dyn Link>> {
        self.link.as_ref().filter(|_| self.size() > 1)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "World {{ rank: {}, size: {} }}", self.rank(), self.size())
    }
}
