//! Backbones: pictures in, the four maps C2–C5 out.

mod biformer;
mod block;

pub use biformer::{BiFormer, BiFormerConfig, MODEL_NAMES};
pub use block::{Block, BlockConfig};
