//! Training: recipe, schedule, optimizer, engine, checkpoints.

mod checkpoint;
mod curves;
mod ema;
mod engine;
mod gradients;
mod layer_decay;
mod optimizer;
mod pictures;
mod processes;
mod recipe;
mod recipe_check;
mod run;
mod schedule;
mod state;
mod tensorboard;

pub use checkpoint::{Checkpoint, Progress};
pub use ema::{ModelEma, ema_decay};
pub use engine::{Event, Outcome, StepMetrics, train, train_in};
pub use gradients::NamedGradients;
pub use layer_decay::LayerDecay;
pub use optimizer::{AdamW, AdamWOptions, is_decayed};
pub use recipe::Recipe;
pub use run::{EpochMetrics, RunFolder};
pub use schedule::{CosineSchedule, PolySchedule};
pub(crate) use state::State;
