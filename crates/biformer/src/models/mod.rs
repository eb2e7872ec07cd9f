//! Backbones: pictures in, the four maps C2–C5 out.

mod backbone;
mod biformer;
mod block;
mod classifier_weights;
mod conv_propagation;
mod dense_checkpoint;
mod vit;
mod vit_weights;

pub use backbone::{Backbone, BackboneConfig};
pub use biformer::{BiFormer, BiFormerConfig, MODEL_NAMES};
pub use block::{Block, BlockConfig};
pub use classifier_weights::InitializedBackbone;
pub use conv_propagation::ConvPropagation;
pub use dense_checkpoint::LoadDenseOptions;
pub(crate) use dense_checkpoint::{
    BACKBONE, check_picture_size, entry, guess_backbone, holds_method, n_win, replace_last_layers,
};
pub use vit::{Propagation, VIT_NAMES, Vit, VitAttention, VitConfig};
