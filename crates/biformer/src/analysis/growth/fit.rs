//! How fast times grow: exponents, and what they say beyond the measured sizes.

use super::{Growing, GrowthPoint};
use crate::analysis::fitted_exponent;

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
            let points = fitted.iter().map(|point| (point.tokens as f64, value(point)));
            fitted_exponent(&points.collect::<Vec<_>>())
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
