//! The numbers that products multiply.

use std::cell::Cell;

use crate::simd;

/// What both sides of a product are rounded to. Sums are float32 in any case, and so is all that is
/// no product with a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Float32: not rounded.
    #[default]
    F32,
    /// Bfloat16, with 8 bits of mantissa, where a processor multiplies twice as many of them.
    Bf16,
}

impl Precision {
    /// # Errors
    /// If this processor, or the instruction set that `BIFORMER_SIMD` forces, has no such products.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Bf16 if !simd::has_bf16() => Err(format!(
                "bf16 needs a processor with avx512_bf16, and {} does without it",
                simd::instruction_set()
            )),
            _ => Ok(()),
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
/// It holds for this thread, which a forward pass with gradients does not leave, and for the CPU: other
/// devices pay no attention to it. Products without gradients have the precision that
/// [`Weight::pack_in`](crate::Weight::pack_in) was told.
///
/// # Panics
/// If [`Precision::check`] gives an error.
pub fn autocast<R>(precision: Precision, forward: impl FnOnce() -> R) -> R {
    /// Brings back what was before, also if the pass panics.
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            AUTOCAST.set(self.0);
        }
    }
    precision.check().unwrap_or_else(|reason| panic!("{reason}"));
    let _restore = Restore(AUTOCAST.replace(precision));
    forward()
}

/// What [`autocast`] says at present.
pub(crate) fn autocast_precision() -> Precision {
    AUTOCAST.get()
}
