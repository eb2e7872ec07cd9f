//! What a checkpoint holds once it is in memory: floating-point tensors under PyTorch's names.

use std::collections::BTreeMap;

use half::{bf16, f16};

/// The floating-point tensors of a model by their official PyTorch names, in alphabetical order.
///
/// Integer buffers (`num_batches_tracked`, relative position indices) are not part of it: the model
/// recomputes them or has no use for them.
pub type StateDict = BTreeMap<String, StateTensor>;

/// One tensor in PyTorch's layout: `data` is row-major, a linear weight is `[out, in]`, a
/// convolution weight `[out, in / groups, kernel_height, kernel_width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements in row-major order, as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl StateTensor {
    /// A tensor of the given shape.
    ///
    /// # Panics
    ///
    /// If `data` does not have as many elements as `shape` says.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Self {
        let expected: usize = shape.iter().product();
        assert_eq!(data.len(), expected, "elements for shape {shape:?}: got {}", data.len());
        Self { shape, data }
    }
}

/// Turns the bytes of one tensor into `f32`, one decoder per element type.
pub(super) type Decoder = fn(&[u8]) -> Vec<f32>;

// Both readers hand over little-endian bytes on a little-endian machine, and Burn has no other.
#[cfg(target_endian = "big")]
compile_error!("checkpoints are decoded as little-endian");

pub(super) fn decode_f16(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&element| f16::from_le_bytes(element).to_f32()).collect()
}

pub(super) fn decode_bf16(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&element| bf16::from_le_bytes(element).to_f32()).collect()
}

pub(super) fn decode_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&element| f32::from_le_bytes(element)).collect()
}

/// Rounds to nearest; beyond the range of `f32` the result is infinite.
pub(super) fn decode_f64(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&element| f64::from_le_bytes(element) as f32).collect()
}
