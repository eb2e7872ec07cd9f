//! How cost grows with the map, by formula.

/// The S of Eq. 9, where routing and attention cost as little as they can: (k/2 · (HW)²)^(1/6), not
/// rounded.
///
/// # Shapes
/// - size: height and width of the map in tokens
pub fn optimal_n_win([height, width]: [usize; 2], topk: usize) -> f64 {
    (topk as f64 / 2.0 * ((height * width) as f64).powi(2)).powf(1.0 / 6.0)
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
}
