//! The numbers that products multiply.

use std::cell::Cell;

use burn::tensor::{DType, Device};

use crate::backend::is_cpu;
use crate::simd;

/// What both sides of a product with a weight are rounded to. Sums are float32 in any case. So is all else on the CPU; on
/// GPUs an operator between two products may take and give maps of that type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Float32: not rounded.
    #[default]
    F32,
    /// Bfloat16, with 8 bits of mantissa and the range of float32.
    Bf16,
    /// Float16, with 11 bits of mantissa and numbers up to 65504; on GPUs.
    F16,
}

impl Precision {
    /// # Errors
    /// If this device has no such products, or the instruction set that `BIFORMER_SIMD` forces has none.
    pub fn check(self, device: &Device) -> Result<(), String> {
        match self {
            Self::F32 => Ok(()),
            Self::Bf16 if is_cpu(device) && !simd::has_bf16() => Err(format!(
                "bf16 needs a processor with avx512_bf16, and {} does without it",
                simd::instruction_set()
            )),
            Self::Bf16 if is_cpu(device) => Ok(()),
            Self::F16 if is_cpu(device) => Err("f16 is for GPUs".to_owned()),
            _ if device.supports_dtype(self.dtype()) => Ok(()),
            _ => Err(format!("this device has no {:?}", self.dtype())),
        }
    }

    /// The type of a rounded number.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

thread_local! {
    static AUTOCAST: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs a forward pass whose differentiable products with weights, of
/// [`linear`](fn@crate::linear) and [`convolution`](fn@crate::convolution), round both sides to
/// `precision`. So do their backward passes, wherever those run. The name is PyTorch's.
///
/// It holds for this thread, which a forward pass with gradients does not leave. Products with a weight that
/// [`Weight::pack_in`](crate::Weight::pack_in) has rounded keep that precision, and so do all without gradients on the CPU;
/// on GPUs others without gradients round as well. Products panic if
/// [`Precision::check`] gives an error for their device.
pub fn autocast<R>(precision: Precision, forward: impl FnOnce() -> R) -> R {
    /// Brings back what was before, also if the pass panics.
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            AUTOCAST.set(self.0);
        }
    }
    let _restore = Restore(AUTOCAST.replace(precision));
    forward()
}

/// What [`autocast`] says at present, for products on this device.
///
/// # Panics
/// If [`Precision::check`] gives an error.
pub(crate) fn autocast_precision(device: &Device) -> Precision {
    let precision = AUTOCAST.get();
    precision.check(device).unwrap_or_else(|reason| panic!("{reason}"));
    precision
}
