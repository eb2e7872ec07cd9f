//! Kernels compiled for every instruction set, chosen at run time.
//!
//! A kernel is written once, over a vector type ([`WithSimd`]), and everything it calls is
//! inlined into it (`#[inline(always)]`); closures are not always, so kernels have few. The widest
//! set that the processor has is taken; `BIFORMER_SIMD` forces a lower one.

#![allow(unsafe_code, reason = "loads, stores and hints take pointers")]

use std::sync::OnceLock;

use pulp::{Arch, Scalar128b};
pub(crate) use pulp::{Simd, WithSimd};

/// The variable that forces an instruction set.
const VARIABLE: &str = "BIFORMER_SIMD";

/// Runs `kernel` compiled for the chosen instruction set.
#[inline(always)]
pub(crate) fn dispatch<Kernel: WithSimd>(kernel: Kernel) -> Kernel::Output {
    match arch() {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => Simd::vectorize(simd, kernel),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(simd) => Simd::vectorize(simd, kernel),
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(simd) => Simd::vectorize(simd, kernel),
        // Four lanes of plain arithmetic: what every 64-bit processor has.
        _ => Scalar128b.vectorize(kernel),
    }
}

/// Whether [`dispatch_bf16`] can run.
pub(crate) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return matches!(arch(), Arch::V4(_)) && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Runs `kernel` compiled for AVX-512 and its products of bfloat16.
///
/// # Panics
/// If the chosen instruction set lacks them.
#[cfg(target_arch = "x86_64")]
pub(crate) fn dispatch_bf16<Kernel: WithSimd>(kernel: Kernel) -> Kernel::Output {
    // The features of `V4`, and one more.
    #[target_feature(enable = "bmi1,bmi2,fma,lzcnt,popcnt,avx2,avx512f,avx512bw,avx512cd")]
    #[target_feature(enable = "avx512dq,avx512vl,avx512bf16")]
    fn run<Kernel: WithSimd>(simd: pulp::x86::V4, kernel: Kernel) -> Kernel::Output {
        kernel.with_simd(simd)
    }
    match arch() {
        // SAFETY: the processor has them.
        Arch::V4(simd) if has_bf16() => unsafe { run(simd, kernel) },
        _ => unreachable!("{VARIABLE}: no products of bfloat16"),
    }
}

/// Float32 numbers in a vector of the chosen instruction set.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    dispatch(Lanes)
}

/// Name of the chosen instruction set: `avx512`, `avx2`, `neon` or `scalar`.
///
/// # Panics
/// If [`check_instruction_set`] gives an error; so does every kernel then.
pub fn instruction_set() -> &'static str {
    name(arch())
}

/// # Errors
/// If `BIFORMER_SIMD` names an instruction set that does not exist or that this processor lacks.
pub fn check_instruction_set() -> Result<(), String> {
    chosen().map(|_| ())
}

fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| chosen().unwrap_or_else(|reason| panic!("{VARIABLE}: {reason}")))
}

fn chosen() -> Result<Arch, String> {
    let Some(wanted) = std::env::var(VARIABLE).ok().filter(|wanted| !wanted.is_empty()) else {
        return Ok(available()[0]);
    };
    let available = available();
    available.iter().copied().find(|&arch| name(arch) == wanted).ok_or_else(|| {
        let names: Vec<_> = available.iter().map(|&arch| name(arch)).collect();
        format!("this processor has no `{wanted}`; it offers {}", names.join(", "))
    })
}

/// What this processor offers, widest first.
fn available() -> Vec<Arch> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(pulp::x86::V4::try_new().map(Arch::V4));
        all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    }
    #[cfg(target_arch = "aarch64")]
    all.extend(pulp::aarch64::Neon::try_new().map(Arch::Neon));
    all.push(Arch::Scalar);
    all
}

fn name(arch: Arch) -> &'static str {
    match arch {
        Arch::Scalar => "scalar",
        #[cfg(target_arch = "x86_64")]
        Arch::V3(_) => "avx2",
        #[cfg(target_arch = "x86_64")]
        Arch::V4(_) => "avx512",
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(_) => "neon",
        #[allow(unreachable_patterns)] // the enum may grow
        _ => "simd",
    }
}

/// The vector that starts at `source`.
///
/// # Safety
/// `S::F32_LANES` values can be read there.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(_: S, source: *const f32) -> S::f32s {
    // SAFETY: the caller's; any bits are a vector.
    unsafe { source.cast::<S::f32s>().read_unaligned() }
}

/// Writes a vector to `target`.
///
/// # Safety
/// `S::F32_LANES` values can be written there.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(_: S, target: *mut f32, values: S::f32s) {
    // SAFETY: the caller's.
    unsafe { target.cast::<S::f32s>().write_unaligned(values) }
}

/// a · b + c, in one instruction where there is one.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    // The plain vectors of `dispatch` would call the C library's `fma`.
    if S::F32_LANES == 4 && S::REGISTER_COUNT == 16 {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_e_f32s(a, b, c)
    }
}

/// The vector that starts at `source`, if `count` numbers can be read there; zeros behind them.
///
/// # Safety
/// `count` numbers, or a whole vector if that is less, can be read there.
#[inline(always)]
pub(crate) unsafe fn load_some<S: Simd>(simd: S, source: *const f32, count: usize) -> S::f32s {
    // SAFETY: the caller's.
    unsafe {
        if count >= S::F32_LANES {
            load(simd, source)
        } else {
            simd.partial_load_f32s(std::slice::from_raw_parts(source, count))
        }
    }
}

/// Writes at most `count` numbers of a vector to `target`.
///
/// # Safety
/// They can be written there.
#[inline(always)]
pub(crate) unsafe fn store_some<S: Simd>(simd: S, target: *mut f32, values: S::f32s, count: usize) {
    // SAFETY: the caller's.
    unsafe {
        if count >= S::F32_LANES {
            store(simd, target, values);
        } else {
            simd.partial_store_f32s(std::slice::from_raw_parts_mut(target, count), values);
        }
    }
}

/// Asks for these numbers ahead of their use.
#[inline(always)]
pub(crate) fn prefetch(source: *const f32, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..count).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint may point anywhere; every 64-bit processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(source.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (source, count);
}
