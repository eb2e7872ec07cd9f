//! How cost grows with the map, by formula.

use biformer_ops::RegionGrid;

/// The S of Eq. 9, where routing and attention cost as little as they can: (k/2 · (HW)²)^(1/6), not
/// rounded.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Routing and attention of Eq. 8, divided by C.
    fn cost([height, width]: [usize; 2], topk: usize, n_win: f64) -> f64 {
        let tokens = (height * width) as f64;
        2.0 * n_win.powi(4) + 2.0 * topk as f64 * (tokens / n_win).powi(2)
    }

    #[test]
    fn no_other_number_of_regions_costs_less() {
        for (size, topk) in [([56, 56], 1), ([28, 28], 4), ([200, 336], 4)] {
            let best = optimal_n_win(size, topk);
            for factor in [0.5, 0.9, 0.99, 1.01, 1.1, 2.0] {
                assert!(
                    cost(size, topk, factor * best) > cost(size, topk, best),
                    "{size:?} {factor}"
                );
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
