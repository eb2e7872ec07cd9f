//! BiFormer: a vision transformer with bi-level routing attention (Zhu et al., CVPR 2023).

pub mod analysis;
pub mod attention;
pub mod classification;
pub mod data;
mod error;
pub mod files;
pub mod layers;
pub mod models;
pub mod train;
pub mod visualize;
pub mod weights;

pub use error::{Error, Result};
