//! Plain loops compiled for the widest vectors that the machine has.

use pulp::{Arch, NullaryFnOnce};

/// Runs `kernel` compiled for AVX-512, AVX2 or whatever the processor offers; chosen at run
/// time.
///
/// The compiler vectorises the loops of the kernel, so everything it calls must be inlined
/// into it (`#[inline(always)]`).
#[inline(always)]
pub(crate) fn vectorize<R>(kernel: impl FnOnce() -> R) -> R {
    struct Kernel<F>(F);
    impl<R, F: FnOnce() -> R> NullaryFnOnce for Kernel<F> {
        type Output = R;

        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Kernel(kernel))
}
