//! Sums of rows of numbers, each with a weight: what maps are resized and boxes are cut out with.

/// `target` = Σ weight · part, where part `index` begins `index · stride` numbers into `source` and is as long as
/// `target`.
#[inline(always)]
pub(crate) fn weighted_sum(
    target: &mut [f32],
    source: &[f32],
    stride: usize,
    sum: &[(usize, f32)],
) {
    if sum.is_empty() {
        target.fill(0.0);
    } else {
        accumulate(target, source, stride, sum, true);
    }
}

/// As [`weighted_sum`], added to what `target` holds.
#[inline(always)]
pub(crate) fn add_weighted_sum(
    target: &mut [f32],
    source: &[f32],
    stride: usize,
    sum: &[(usize, f32)],
) {
    accumulate(target, source, stride, sum, false);
}

/// Two parts at a time, so that `target` is read and written half as often.
#[inline(always)]
fn accumulate(
    target: &mut [f32],
    source: &[f32],
    stride: usize,
    sum: &[(usize, f32)],
    mut is_first: bool,
) {
    let len = target.len();
    let part = |index: usize| &source[index * stride..][..len];
    let (pairs, rest) = sum.as_chunks::<2>();
    for &[(a, a_weight), (b, b_weight)] in pairs {
        let parts = part(a).iter().zip(part(b));
        for (target, (a, b)) in target.iter_mut().zip(parts) {
            let former = if is_first { 0.0 } else { *target };
            *target = former + a * a_weight + b * b_weight;
        }
        is_first = false;
    }
    for &(a, weight) in rest {
        for (target, a) in target.iter_mut().zip(part(a)) {
            let former = if is_first { 0.0 } else { *target };
            *target = former + a * weight;
        }
    }
}
