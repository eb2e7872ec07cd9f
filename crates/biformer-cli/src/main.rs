//! The command `biformer`: parse, then one function a command.
//!
//! Results go to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 failed,
//! 2 wrong usage, 130 interrupted.

mod args;
mod commands;
mod device;
mod progress;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

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

const INTERRUPTED: u8 = 130;

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
    let result = with_workers(|| match cli.command {
        Command::Demo(args) => commands::demo::run(&args, &STOP),
        Command::Train(args) => commands::train::run(&args, &STOP),
        Command::Eval(args) => commands::eval::run(&args, &STOP),
        Command::LabelMaps(args) => commands::label_maps::run(&args, &STOP),
        Command::Predict(args) => commands::predict::run(&args, &STOP),
        Command::Info(args) => commands::info::run(&args),
        Command::Benchmark(args) => commands::benchmark::run(&args, &STOP),
        Command::Export(args) => commands::export::run(&args),
    });
    match result {
        Ok(commands::Done::Well) => ExitCode::SUCCESS,
        Ok(commands::Done::WithFailures) => ExitCode::FAILURE,
        Ok(commands::Done::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error}")); // its causes are within
            let usage = error.downcast_ref::<biformer::Error>();
            let usage = matches!(usage, Some(biformer::Error::Option { .. }));
            if usage { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Tells the allocator to keep what is freed: the next step takes buffers of the same sizes.
/// Given back and taken anew, they cost a training step a quarter of its time in page faults.
#[allow(unsafe_code)]
fn keep_memory() {
    /// `mi_option_purge_delay`; −1 means never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number that the allocator reads when it frees.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) };
}

/// Runs `command` on one of the threads that compute: operators then hand tasks to the others
/// without waking anybody. Pictures are loaded on Rayon's global threads, which may wait for nobody.
fn with_workers(
    command: impl FnOnce() -> anyhow::Result<commands::Done> + Send,
) -> anyhow::Result<commands::Done> {
    biformer::check_simd()?;
    rayon::ThreadPoolBuilder::new().stack_size(STACK).build()?.install(command)
}

/// `biformer info | head` has shown what was asked for.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
