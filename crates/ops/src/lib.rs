//! The operators of BiFormer (Zhu et al., CVPR 2023): bi-level routing attention and what a
//! block needs around it, on channels-last maps (`[batch, height, width, channels]`).
//!
//! An operator is a function from tensors to a tensor. One with kernels has a folder: `mod.rs`
//! says what it computes and with which shapes, `reference.rs` defines it in plain tensor
//! operations, `cpu.rs` holds the fused kernel, `cube.rs` that of GPUs, and `autodiff.rs` the
//! backward pass.
//! Nothing here knows of weights, pictures or training, so the operators fit anyone's vision
//! transformer:
//!
//! ```
//! use biformer_ops::{RegionGrid, RoutedAttentionOptions, RoutingOptions, route, routed_attention};
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::default();
//! let [q, k, v] = std::array::from_fn(|_| {
//!     Tensor::<4>::random([1, 14, 14, 32], Distribution::Default, &device)
//! });
//! let grid = RegionGrid::pad_first(14, 14, 7); // 7 × 7 regions of 2 × 2 tokens
//! let region_graph = route(&q, &k, &grid, &RoutingOptions { topk: 4, ..Default::default() });
//! let options = RoutedAttentionOptions { num_heads: 2, scale: 32f64.powf(-0.5), mask_padding: false };
//! let output = routed_attention(q, k, v, region_graph, &grid, &options);
//! assert_eq!(output.dims(), [1, 14, 14, 32]);
//! ```

mod all_reduce;
mod backend;
mod bandwidth;
mod batch_norm;
mod biased_attention;
mod columns;
mod convolution;
mod depthwise_conv;
mod flex;
mod gelu;
mod global_attention;
#[cfg(feature = "gpu")]
mod gpu;
mod layer_norm;
mod linear;
mod math;
mod matmul;
mod parallel;
mod peak;
mod precision;
pub mod profile;
mod regions;
mod resample;
mod roi_align;
mod routed_attention;
mod routing;
mod simd;
mod weighted_sum;

pub use all_reduce::{Reducer, all_reduce};
pub use backend::{OpsBackend, is_cpu, is_fused};
pub use bandwidth::memory_bandwidth;
pub use batch_norm::{batch_norm, batch_norm_reference};
pub use biased_attention::{BiasedAttentionOptions, biased_attention, biased_attention_reference};
pub use convolution::{
    ConvolutionOptions, Window, convolution, convolution_reference, convolution_weight,
};
pub use depthwise_conv::{
    depthwise_conv, depthwise_conv_add, depthwise_conv_reference, prepare_depthwise_weight,
};
pub use gelu::gelu;
pub use global_attention::{GlobalAttention, global_attention, global_attention_traced};
#[cfg(feature = "gpu")]
pub use gpu::GpuBackend;
pub use layer_norm::{layer_norm, layer_norm_as, layer_norm_reference};
pub use linear::{
    LinearFusion, LinearOptions, Norm, PackedWeight, Weight, linear, linear_reference,
};
pub use parallel::keep_awake;
pub use peak::peak_gflops;
pub use precision::{Precision, autocast};
pub use regions::RegionGrid;
pub use resample::{Resampling, Taps, resample, resample_reference};
pub use roi_align::{Roi, RoiAlignOptions, roi_align, roi_align_reference};
pub use routed_attention::{
    RoutedAttention, RoutedAttentionOptions, check_fused_attention, routed_attention,
    routed_attention_lce, routed_attention_traced, routed_attention_weights, split_qkv,
};
pub use routing::{RoutingOptions, affinity, region_means, route, route_reference, topk_regions};
pub use simd::{check_instruction_set, instruction_set};
