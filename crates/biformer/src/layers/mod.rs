//! The small parts that blocks and heads share.

mod batch_norm;
mod batch_part;
mod convolution;
mod depthwise_conv;
mod drop_path;
mod layer_norm;
mod linear;
mod mlp;
mod patch_embed;

pub use batch_norm::batch_norm;
pub use batch_part::{BatchPart, with_batch_part};
pub use depthwise_conv::DepthwiseConv;
pub use drop_path::{DropPath, drop_path_rates};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use mlp::{Mlp, MlpConfig};
pub use patch_embed::{
    Merging, OverlappedMerging, OverlappedStem, PatchEmbed, PatchEmbedConfig, PatchEmbedKind, Stem,
};
