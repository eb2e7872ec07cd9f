//! The small parts that blocks and heads share.

mod batch_norm;
mod depthwise_conv;
mod drop_path;
mod init;
mod mlp;
mod patch_embed;

pub use batch_norm::batch_norm;
pub use depthwise_conv::DepthwiseConv;
pub use drop_path::{DropPath, drop_path_rates};
pub use init::linear;
pub use mlp::{Mlp, MlpConfig};
pub use patch_embed::{
    Merging, OverlappedMerging, OverlappedStem, PatchEmbed, PatchEmbedConfig, PatchEmbedKind, Stem,
};
