//! The small parts that blocks and heads share.

mod batch_norm;
mod drop_path;
mod init;
mod mlp;
mod patch_embed;

pub use batch_norm::batch_norm;
pub use drop_path::{DropPath, drop_path_rates};
pub use init::{depthwise_conv2d, linear};
pub use mlp::{Mlp, MlpConfig};
pub use patch_embed::{
    Merging, OverlappedMerging, OverlappedStem, PatchEmbed, PatchEmbedConfig, PatchEmbedKind, Stem,
};
