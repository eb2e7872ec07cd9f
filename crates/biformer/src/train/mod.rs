//! Training: recipe, schedule, optimizer, engine, checkpoints.

mod checkpoint;
mod curves;
mod engine;
mod optimizer;
mod recipe;
mod run;
mod schedule;
mod tensorboard;

pub use checkpoint::{Checkpoint, Progress};
pub(crate) use engine::State;
pub use engine::{Event, Outcome, StepMetrics, train};
pub use optimizer::{AdamW, AdamWOptions, is_decayed};
pub use recipe::Recipe;
pub use run::{EpochMetrics, RunFolder};
pub use schedule::{CosineSchedule, PolySchedule};
