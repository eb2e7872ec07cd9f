//! Backbones: pictures in, the four maps C2–C5 out.

mod biformer;
mod block;
mod classifier_weights;
mod dense_checkpoint;

pub use biformer::{BiFormer, BiFormerConfig, MODEL_NAMES};
pub use block::{Block, BlockConfig};
pub use classifier_weights::InitializedBackbone;
pub(crate) use dense_checkpoint::{entry, guess_backbone, n_win};
