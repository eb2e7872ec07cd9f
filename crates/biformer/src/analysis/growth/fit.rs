//! How fast times grow: exponents, and what they say beyond the measured sizes.

use super::{Growing, GrowthPoint};

/// t = c · tokensᵉ: each e that fits best, over the larger half of the measured sizes, three at least.
#[derive(Clone, Debug)]
pub struct Exponents {
    /// Of which attention.
    pub attention: Growing,
    /// The least and the most tokens that it is fitted to.
    pub tokens: [usize; 2],
    /// Of the whole attention.
    pub ms: f64,
    /// Of routing and attention alone.
    pub core_ms: Option<f64>,
    /// Of the multiply-accumulates of routing and attention: what time would follow if all of it
    /// were computed equally fast.
    pub core_macs: f64,
}

impl Exponents {
    /// Of points by tokens, two at least.
    pub(super) fn fit(attention: Growing, points: &[GrowthPoint]) -> Self {
        let count = points.len().div_ceil(2).max(3).min(points.len());
        let fitted = &points[points.len() - count..];
        let of = |value: fn(&GrowthPoint) -> f64| {
            exponent(fitted.iter().map(|point| (point.tokens as f64, value(point))))
        };
        let core_is_known = fitted.iter().all(|point| point.core_ms.is_some());
        Self {
            attention,
            tokens: [fitted[0].tokens, fitted[count - 1].tokens],
            ms: of(|point| point.ms),
            core_ms: core_is_known.then(|| of(|point| point.core_ms.unwrap_or_default())),
            core_macs: of(|point| point.core_macs as f64),
        }
    }

    /// `point` with a time of the whole attention that grows from that of `last` on.
    pub(super) fn extrapolate(&self, last: &GrowthPoint, point: GrowthPoint) -> GrowthPoint {
        let ratio = point.tokens as f64 / last.tokens as f64;
        GrowthPoint { ms: last.ms * ratio.powf(self.ms), extrapolated: true, ..point }
    }
}

/// The e of y = c · xᵉ with the least squares between the logarithms.
fn exponent(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let logs = points.map(|(x, y)| (x.ln(), y.ln()));
    let mean_x = logs.clone().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.clone().map(|(_, y)| y).sum::<f64>() / count;
    let (covariance, variance) = logs.fold((0.0, 0.0), |(covariance, variance), (x, y)| {
        let x = x - mean_x;
        (covariance + x * (y - mean_y), variance + x * x)
    });
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(attention: Growing, tokens: usize, ms: f64) -> GrowthPoint {
        GrowthPoint {
            attention,
            img_size: [4, 4 * tokens],
            tokens,
            n_win: None,
            ms,
            core_ms: Some(ms / 2.0),
            macs: 2 * tokens * tokens,
            core_macs: tokens * tokens,
            extrapolated: false,
        }
    }

    #[test]
    fn the_exponent_of_a_power_is_found_again() {
        for power in [1.0, 4.0 / 3.0, 2.0] {
            let points = [64.0, 256.0, 300.0, 4096.0].map(|n: f64| (n, 0.7 * n.powf(power)));
            assert!((exponent(points.into_iter()) - power).abs() < 1e-12); // rounding of logarithms
        }
        // Between the slopes 1 and 2 of the two halves, by symmetry.
        assert!((exponent([(1.0, 1.0), (2.0, 2.0), (4.0, 8.0)].into_iter()) - 1.5).abs() < 1e-12);
    }

    /// Small maps are paid for in calls, not in arithmetic.
    #[test]
    fn the_larger_half_is_fitted() {
        let times = [(16, 9.0), (64, 9.0), (256, 9.0), (1024, 1.0), (2048, 4.0), (4096, 16.0)];
        let points = times.map(|(tokens, ms)| point(Growing::Full, tokens, ms));
        let exponents = Exponents::fit(Growing::Full, &points);
        assert_eq!(exponents.tokens, [1024, 4096]);
        for found in [exponents.ms, exponents.core_ms.unwrap(), exponents.core_macs] {
            assert!((found - 2.0).abs() < 1e-12, "{found}");
        }
        assert_eq!(Exponents::fit(Growing::Full, &points[..2]).tokens, [16, 64]);
    }

    #[test]
    fn extrapolation_follows_the_exponents_and_says_so() {
        let last = point(Growing::Full, 100, 3.0);
        let next = GrowthPoint { core_ms: None, ..point(Growing::Full, 400, 0.0) };
        let (ms, core_ms, tokens) = (1.5, Some(2.0), [25, 100]);
        let exponents = Exponents { attention: Growing::Full, tokens, ms, core_ms, core_macs: 2.0 };
        let found = exponents.extrapolate(&last, next);
        assert!(found.extrapolated && !last.extrapolated);
        assert_eq!((found.tokens, found.ms, found.core_ms), (400, 24.0, None));
        assert_eq!(found.core_macs, 160_000); // counted, not extrapolated
    }
}
