//! The small parts that blocks and heads share.

mod batch_norm;
mod batch_part;
mod channel_dropout;
mod conv_module;
mod conv_norm;
mod convolution;
mod depthwise_conv;
mod drop_path;
mod fpn;
mod head_norm;
mod layer_norm;
mod linear;
mod mlp;
mod patch_embed;
mod patch_projection;
mod resize;
mod simple_feature_pyramid;
mod transposed_conv;

pub use batch_norm::{batch_norm, freeze_statistics};
pub use batch_part::{BatchPart, with_batch_part};
pub use channel_dropout::ChannelDropout;
pub use conv_module::ConvModule;
pub(crate) use conv_module::normal_conv;
pub use conv_norm::ConvNorm;
pub(crate) use convolution::convolve;
pub use depthwise_conv::DepthwiseConv;
pub use drop_path::{DropPath, drop_path_rates};
pub(crate) use fpn::add_top_down;
pub use fpn::{CoarserLevels, Fpn, FpnConfig};
pub use head_norm::HeadNorm;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use mlp::{Mlp, MlpConfig};
pub(crate) use patch_embed::PYTORCH_EPSILON;
pub use patch_embed::{
    Merging, OverlappedMerging, OverlappedStem, PatchEmbed, PatchEmbedConfig, PatchEmbedKind, Stem,
    SwinMerging, SwinStem,
};
pub use patch_projection::PatchProjection;
pub use resize::{
    adaptive_avg_pool, every_second, max_pool, resize_bicubic, resize_bilinear, resize_nearest,
};
pub use simple_feature_pyramid::{SimpleFeaturePyramid, SimpleFeaturePyramidConfig};
pub use transposed_conv::TransposedConv;
