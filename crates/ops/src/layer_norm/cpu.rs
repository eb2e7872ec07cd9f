//! temporary
use crate::simd::vectorize;
pub(crate) fn normalize_rows(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    out: &mut [f32],
) {
    let c = gamma.len();
    vectorize(|| {
        for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
            let mut lanes = [0.0f32; 16];
            for ch in x.chunks_exact(16) {
                for (l, v) in lanes.iter_mut().zip(ch) {
                    *l += v;
                }
            }
            let mut sum: f32 = lanes.iter().sum();
            for v in x.chunks_exact(16).remainder() {
                sum += v;
            }
            let mean = sum / c as f32;
            let mut lanes = [0.0f32; 16];
            for ch in x.chunks_exact(16) {
                for (l, v) in lanes.iter_mut().zip(ch) {
                    *l += (v - mean) * (v - mean);
                }
            }
            let mut var: f32 = lanes.iter().sum();
            for v in x.chunks_exact(16).remainder() {
                var += (v - mean) * (v - mean);
            }
            let r = 1.0 / (var / c as f32 + epsilon).sqrt();
            for (((o, v), g), b) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
                *o = (v - mean) * r * g + b;
            }
        }
    });
}
