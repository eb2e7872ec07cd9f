//! The numbers that products multiply.

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
