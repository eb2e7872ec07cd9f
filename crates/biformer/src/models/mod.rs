//! Backbones: pictures in, the four maps C2–C5 out.

mod biformer;
mod block;
mod classifier_weights;

pub use biformer::{BiFormer, BiFormerConfig, MODEL_NAMES};
pub use block::{Block, BlockConfig};
pub use classifier_weights::InitializedBackbone;
