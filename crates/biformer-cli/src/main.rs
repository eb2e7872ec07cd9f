//! The command `biformer`: parse, then one function a command.
//!
//! Results go to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 failed,
//! 2 wrong usage, 130 interrupted. Of several processes the first one tells results and progress.

mod args;
mod commands;
mod device;
mod host;
mod progress;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use biformer::Error;
use biformer::distributed::World;
use clap::Parser;

use args::{Cli, Command};
use progress::say;

// glibc returns large buffers to the system, so that every big tensor page-faults: linear
// layers run up to four times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As much as the main thread has.
const STACK: usize = 8 << 20;

/// Set by the first Ctrl-C; the second one ends the process at once.
static STOP: AtomicBool = AtomicBool::new(false);

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;
/// What Rust itself exits with.
const PANICKED: u8 = 101;

/// What fails in all processes is told by the first of them, which ends the others: they give it
/// this time to do so.
const FIRST_SPEAKS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        say(format!("warning: Ctrl-C will end the process at once: {error}"));
    }
    keep_memory();
    let world = match World::open() {
        Ok(world) => world,
        Err(error) => {
            say(format!("error: {error}"));
            return ExitCode::from(USAGE);
        }
    };
    let _end = EndOthersInPanic(&world);
    let result = with_workers(|| match cli.command {
        Command::Train(args) => commands::train::run(&args, &world, &STOP),
        Command::Eval(args) => commands::eval::run(&args, &world, &STOP),
        Command::Predict(args) => commands::predict::run(&args, &world, &STOP),
        _ if world.size() > 1 => Err(Error::Processes(
            "only `train`, `eval` and `predict` share their work; start the others without mpirun"
                .to_owned(),
        )
        .into()),
        Command::Demo(args) => commands::demo::run(&args, &STOP),
        Command::LabelMaps(args) => commands::label_maps::run(&args, &STOP),
        Command::Visualize(args) => commands::visualize::run(&args, &STOP),
        Command::Info(args) => commands::info::run(&args),
        Command::Compare(args) => commands::compare::run(&args, &STOP),
        Command::Benchmark(args) => commands::benchmark::run(&args, &STOP),
        Command::Export(args) => commands::export::run(&args),
        Command::CheckData(args) => commands::check_data::run(&args, &STOP),
    });
    let code = match result {
        Ok(commands::Done::Well) => 0,
        Ok(commands::Done::WithFailures) => FAILED,
        Ok(commands::Done::Interrupted) => INTERRUPTED,
        Err(error) if is_broken_pipe(&error) => {
            world.abort(0);
            0
        }
        Err(error) => fail(&error, &world),
    };
    world.leave();
    ExitCode::from(code)
}

/// Tells the error, and ends the other processes, which would wait for this one. The exit code.
fn fail(error: &anyhow::Error, world: &World) -> u8 {
    if world.is_first() {
        say(format!("error: {error}")); // its causes are within
    } else {
        std::thread::sleep(FIRST_SPEAKS);
        // mpirun's SIGTERM after an abort, which the handler takes for Ctrl-C.
        if !STOP.load(Ordering::Relaxed) {
            say(format!("rank {}: error: {error}", world.rank()));
        }
    }
    let usage = matches!(error.downcast_ref::<Error>(), Some(Error::Option { .. }));
    let code = if usage { USAGE } else { FAILED };
    world.abort(code.into());
    code
}

/// A process that panics must not leave the others waiting, nor wait for them.
struct EndOthersInPanic<'a>(&'a World);

impl Drop for EndOthersInPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort(PANICKED.into());
        }
    }
}

/// Tells the allocator to keep what is freed: the next step takes buffers of the same sizes.
/// Given back and taken anew, they cost a training step a quarter of its time in page faults.
#[allow(unsafe_code, reason = "the allocator is a C library")]
fn keep_memory() {
    /// `mi_option_purge_delay`; −1 means never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number that the allocator reads when it frees.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) };
}

/// Runs `command` on one of the threads that compute: operators then hand tasks to the others
/// without waking anybody. Pictures are loaded on as many threads of the loader's own.
fn with_workers(
    command: impl FnOnce() -> anyhow::Result<commands::Done> + Send,
) -> anyhow::Result<commands::Done> {
    biformer::check_simd()?;
    let threads = host::threads();
    rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK).build()?.install(command)
}

/// `biformer info | head` has shown what was asked for.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
