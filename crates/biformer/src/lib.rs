//! BiFormer: a vision transformer with bi-level routing attention (Zhu et al., CVPR 2023,
//! <https://arxiv.org/abs/2303.08810>), as a library.
//!
//! A guided tour, from the bottom up:
//!
//! - [`attention`]: bi-level routing attention as a module, the attention to all tokens of
//!   stage 4, and those that the paper compares with. The operators below it are in the crate
//!   `biformer_ops`.
//! - [`layers`]: patch embedding, perceptron, stochastic depth.
//! - [`models`]: the backbone in all its variants; pictures in, the maps C2–C5 out.
//! - [`weights`]: official checkpoints and our own files, strict both ways.
//! - [`data`]: pictures from files to numbers, as Pillow and timm have them.
//! - [`classification`]: backbone with a head; evaluation and prediction.
//! - [`detection`]: backbone with RetinaNet, its losses; inference on pictures of any size, and evaluation.
//! - [`segmentation`]: backbone with Semantic FPN or UPerNet, its losses; evaluation, and inference on
//!   pictures of any size.
//! - [`train`]: recipe, optimizer, schedule, a run that can be resumed bit for bit.
//! - [`distributed`]: the processes of a run that MPI joins (feature `mpi`).
//! - [`analysis`], [`visualize`]: what a model costs in work and in time, and pictures of what it
//!   says.
//!
//! The backend is a value, Burn's `Device`; no type here has a parameter for it.
//!
//! ```
//! use biformer::models::BiFormerConfig;
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::default();
//! let backbone = BiFormerConfig::nano().init(&device);
//! let picture = Tensor::zeros([1, 3, 64, 64], &device);
//! let [c2, .., c5] = backbone.forward_features(picture);
//! assert_eq!(c2.dims(), [1, 32, 16, 16]); // stride 4
//! assert_eq!(c5.dims(), [1, 256, 2, 2]); // stride 32
//! ```

pub mod analysis;
pub mod attention;
pub mod classification;
pub mod data;
pub mod detection;
pub mod distributed;
mod error;
pub mod files;
pub mod layers;
pub mod models;
pub mod segmentation;
pub mod train;
pub mod visualize;
pub mod weights;

/// # Errors
/// [`Error::Option`] if `BIFORMER_SIMD` is set and names vector instructions that this processor
/// lacks; operators panic then.
pub fn check_simd() -> Result<()> {
    biformer_ops::check_instruction_set().map_err(|reason| Error::option("BIFORMER_SIMD", reason))
}

/// # Errors
/// [`Error::Option`] if products of this precision cannot be computed on this device.
pub fn check_precision(precision: Precision, device: &Device) -> Result<()> {
    check_option("precision", precision, device)
}

/// [`check_precision`] for the option that asks for it.
fn check_option(option: &'static str, precision: Precision, device: &Device) -> Result<()> {
    precision.check(device).map_err(|reason| Error::option(option, reason))
}

pub use biformer_ops::Precision;
use burn::tensor::Device;
pub use error::{Error, Result};
