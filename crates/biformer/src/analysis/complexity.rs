//! How the cost of attention grows with the map, by formula and counted from built modules.
//!
//! All figures are multiply-accumulates of one layer: the projections to Q, K and V, then what
//! compares and gathers tokens. Output projection and local enhancement, which all could have, are
//! left out, as in Eq. 8.

use biformer_ops::RegionGrid;
use burn::tensor::Device;

use super::bra_costs;
use crate::attention::BraConfig;

/// Multiply-accumulates of one attention on one map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionCost {
    /// Tokens to Q, K and V.
    pub projections: f64,
    /// Regions to regions; 0 where nothing is routed.
    pub routing: f64,
    /// Q Kᵀ, and weights times V.
    pub attention: f64,
}

impl AttentionCost {
    /// Routing and attention: what grows faster than the map.
    pub fn core(&self) -> f64 {
        self.routing + self.attention
    }

    /// With the projections.
    pub fn total(&self) -> f64 {
        self.projections + self.core()
    }
}

/// Who attends to whom. S is `n_win`, k is `topk`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mechanism {
    /// Every token to all (Eq. 1–2; Vaswani et al., NeurIPS 2017).
    Full,
    /// To the own row, then, in a second layer, to the own column (Ho et al., 2019, arXiv
    /// 1912.12180).
    Axial,
    /// To the own window of `side × side` tokens (Eq. 2 of Swin; Liu et al., ICCV 2021), whole
    /// windows taken for granted.
    Window {
        /// Tokens a side.
        side: usize,
    },
    /// To k of S × S regions, as Eq. 8 has it, S as Eq. 9 has it, not rounded.
    Bra {
        /// Routed regions.
        topk: usize,
    },
    /// The same, counted from a built module, which pads where S does not divide.
    BraCounted {
        /// Routed regions.
        topk: usize,
        /// Regions a side; `None` for [`dividing_n_win`].
        n_win: Option<usize>,
    },
}

impl Mechanism {
    /// Cost for a map of `[height, width]` tokens of `dim` channels.
    pub fn cost(&self, size: [usize; 2], dim: usize) -> AttentionCost {
        let [height, width] = size.map(|side| side as f64);
        let (tokens, channels) = (height * width, dim as f64);
        let projections = 3.0 * tokens * channels * channels;
        let plain = |attention| AttentionCost { projections, routing: 0.0, attention };
        match *self {
            Self::Full => plain(2.0 * tokens * tokens * channels),
            Self::Axial => AttentionCost {
                projections: 2.0 * projections,
                ..plain(2.0 * tokens * (height + width) * channels)
            },
            Self::Window { side } => plain(2.0 * tokens * (side * side) as f64 * channels),
            Self::Bra { topk } => bra_cost(size, dim, optimal_n_win(size, topk), topk),
            Self::BraCounted { topk, n_win } => {
                let n_win = n_win.unwrap_or_else(|| dividing_n_win(size, topk));
                counted(&BraConfig::new(dim, 1, n_win, topk), size)
            }
        }
    }

    /// Regions a side on such a map, if there are regions.
    pub fn n_win(&self, size: [usize; 2]) -> Option<f64> {
        match *self {
            Self::Bra { topk } => Some(optimal_n_win(size, topk)),
            Self::BraCounted { topk, n_win } => {
                Some(n_win.unwrap_or_else(|| dividing_n_win(size, topk)) as f64)
            }
            Self::Full | Self::Axial | Self::Window { .. } => None,
        }
    }
}

/// Eq. 8: 3HWC² + 2S⁴C + 2kC(HW)²/S². The product of S² by S² region means takes S⁴C
/// multiply-accumulates: the paper counts routing twice, attention once.
///
/// # Shapes
/// - size: height and width of the map in tokens
pub fn bra_cost(size: [usize; 2], dim: usize, n_win: f64, topk: usize) -> AttentionCost {
    let [height, width] = size.map(|side| side as f64);
    let (tokens, channels) = (height * width, dim as f64);
    AttentionCost {
        projections: 3.0 * tokens * channels * channels,
        routing: 2.0 * n_win.powi(4) * channels,
        attention: 2.0 * topk as f64 * channels * (tokens / n_win).powi(2),
    }
}

/// The S of Eq. 9, where routing and attention of Eq. 8 cost as little as they can:
/// (k/2 · (HW)²)^(1/6), not rounded.
///
/// # Shapes
/// - size: height and width of the map in tokens
pub fn optimal_n_win([height, width]: [usize; 2], topk: usize) -> f64 {
    (topk as f64 / 2.0 * ((height * width) as f64).powi(2)).powf(1.0 / 6.0)
}

/// Eq. 9 on whole regions: the S for which routing and attention cost least with the padding that it
/// takes, the smaller one of equals.
///
/// # Shapes
/// - size: height and width of the map in tokens
///
/// # Panics
/// If a size is zero.
pub fn best_n_win([height, width]: [usize; 2], topk: usize) -> usize {
    let most = (2.0 * optimal_n_win([height, width], topk)).ceil() as usize;
    let cost = |n_win: &usize| {
        let grid = RegionGrid::pad_first(height, width, *n_win);
        let (regions, tokens) = (grid.regions(), grid.tokens());
        2 * regions * regions + 2 * regions * topk.min(regions) * tokens * tokens // Eq. 8, over C
    };
    (1..=most.min(height.max(width)).max(1)).min_by_key(cost).expect("a number from 1")
}

/// The whole S that is nearest to Eq. 9's among those that divide both sides, so that nothing is
/// padded.
///
/// # Shapes
/// - size: height and width of the map in tokens
pub fn dividing_n_win(size: [usize; 2], topk: usize) -> usize {
    let best = optimal_n_win(size, topk);
    let ratio = |n_win: &usize| (*n_win as f64 / best).ln().abs();
    let divisors = (1..=size[0].min(size[1])).filter(|n| size.iter().all(|side| side % n == 0));
    divisors.min_by(|a, b| ratio(a).total_cmp(&ratio(b))).expect("1 divides all")
}

/// The exponent e of the law `cost = a · tokens^e` that fits best: the slope of the line through the
/// logarithms by least squares.
///
/// # Panics
/// If there are not two numbers of tokens.
pub fn fitted_exponent(points: &[(f64, f64)]) -> f64 {
    let mean =
        |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|(tokens, _)| tokens.ln()), mean(|(_, cost)| cost.ln()));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (tokens, cost) in points {
        covariance += (tokens.ln() - x) * (cost.ln() - y);
        variance += (tokens.ln() - x).powi(2);
    }
    assert!(variance > 0.0, "fitted_exponent: got: one number of tokens, expected: at least 2");
    covariance / variance
}

/// What a built module does, padding included.
fn counted(config: &BraConfig, size: [usize; 2]) -> AttentionCost {
    // Weights are drawn when they are used: a module that is only counted draws none.
    let layers = bra_costs(&config.init(&Device::default()), size);
    let macs = |name: &str| {
        let layers = layers.iter().filter(|layer| layer.name == name);
        layers.map(|layer| layer.macs as f64).sum::<f64>()
    };
    AttentionCost {
        projections: macs("attn.qkv"),
        routing: macs("attn.routing"),
        attention: macs("attn.attention"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_number_of_regions_costs_less() {
        for (size, topk) in [([56, 56], 1), ([28, 28], 4), ([200, 336], 4)] {
            let cost = |n_win: f64| bra_cost(size, 64, n_win, topk).core();
            let best = optimal_n_win(size, topk);
            for factor in [0.5, 0.9, 0.99, 1.01, 1.1, 2.0] {
                assert!(cost(factor * best) > cost(best), "{size:?} {factor}");
            }
        }
    }

    #[test]
    fn whole_regions_lie_near_the_optimum() {
        for (size, topk) in [([56, 56], 4), ([512, 512], 4), ([200, 336], 1), ([31, 17], 2)] {
            let ratio = best_n_win(size, topk) as f64 / optimal_n_win(size, topk);
            assert!((0.5..2.0).contains(&ratio), "{size:?}: {ratio} of the optimum");
        }
        // 14 regions of 4 tokens fit, of 16.4 each would have padding; 74 · 7 = 518 cost less than 64 · 8.
        assert_eq!([[1; 2], [56; 2], [512; 2]].map(|size| best_n_win(size, 4)), [1, 14, 74]);
    }
}
