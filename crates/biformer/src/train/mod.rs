//! Training: recipe, schedule, optimizer, engine, checkpoints.

mod checkpoint;
mod classify;
mod curves;
mod ema;
mod engine;
mod gradients;
mod label_maps;
mod layer_decay;
mod metrics;
mod objective;
mod optimizer;
mod processes;
mod recipe;
mod recipe_check;
mod recipe_file;
mod recipe_parts;
mod run;
mod schedule;
mod segment;
mod state;
mod task;
mod tensorboard;

pub use checkpoint::{Checkpoint, Progress};
pub(crate) use classify::{Classification, TrainBatch};
pub use ema::{ModelEma, ema_decay};
pub use engine::{Event, Outcome, train, train_in};
pub use gradients::NamedGradients;
pub use layer_decay::LayerDecay;
pub use metrics::{EpochMetrics, Scores, StepMetrics};
pub use optimizer::{AdamW, AdamWOptions, is_decayed};
pub use recipe::Recipe;
pub use run::RunFolder;
pub use schedule::{CosineSchedule, IterSchedule, LrPolicy};
pub(crate) use state::State;
pub use task::Task;
