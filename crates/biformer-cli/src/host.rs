//! This process's share of a host: threads, and one of several GPUs.

use std::thread::available_parallelism;

/// Set by Open MPI: processes on this host, and whether each is bound to processors of its own.
const LOCAL_SIZE: &str = "OMPI_COMM_WORLD_LOCAL_SIZE";
const BOUND: &str = "OMPI_MCA_orte_bound_at_launch";

/// Which of the processes on this host this one is; set by Open MPI, or by Slurm's `srun`.
#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu", feature = "metal"))]
const LOCAL_RANKS: [&str; 2] = ["OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"];

/// Set by people; Rayon's own.
const THREADS: &str = "RAYON_NUM_THREADS";

/// How many threads are to compute, and how many are to load pictures: 0 leaves it to Rayon, which
/// takes `RAYON_NUM_THREADS` or a thread for each processor that it may use.
pub fn threads() -> usize {
    let local = std::env::var(LOCAL_SIZE).ok().and_then(|size| size.parse().ok());
    match local {
        Some(processes) if processes > 1 && std::env::var_os(THREADS).is_none() => {
            let available = available_parallelism().map_or(1, usize::from);
            // Some bindings put several processes on the same processors.
            let is_bound = std::env::var_os(BOUND).is_some();
            let host = if is_bound { processors().unwrap_or(available) } else { available };
            share_of(host, processes, available)
        }
        _ => 0,
    }
}

/// The one of `devices` that is this process's turn, if a launcher says which of the processes on
/// this host it is.
#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu", feature = "metal"))]
pub fn turn<D>(devices: impl FnOnce() -> Vec<D>) -> Option<D> {
    let rank = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    let rank = LOCAL_RANKS.into_iter().find_map(rank)?;
    let mut devices = devices();
    let turn = rank.checked_rem(devices.len())?;
    Some(devices.swap_remove(turn))
}

fn share_of(host: usize, processes: usize, available: usize) -> usize {
    (host / processes).clamp(1, available)
}

/// Processors of this host, those included that this process may not use.
fn processors() -> Option<usize> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::share_of;

    #[test]
    fn processes_share_a_host() {
        for (host, processes, available, expected) in [
            (16, 2, 16, 8), // not bound
            (16, 2, 8, 8),  // bound to eight of its own
            (16, 4, 8, 4),  // two are bound to the same eight
            (16, 2, 1, 1),  // bound to one
            (2, 4, 2, 1),   // more processes than processors
        ] {
            assert_eq!(share_of(host, processes, available), expected);
        }
    }
}
