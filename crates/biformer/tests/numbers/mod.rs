//! Numbers for tests that depend on the arguments alone.

/// Numbers in [−1, 1) without a pattern (splitmix64).
pub fn number(seed: usize, i: usize) -> f32 {
    let mut z =
        ((seed as u64) << 32 | i as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
}
