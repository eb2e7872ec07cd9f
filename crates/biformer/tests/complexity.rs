//! The cost of attention: formulas against built modules, and the exponents of the paper.

use biformer::analysis::{
    AttentionCost, Mechanism, bra_cost, dividing_n_win, fitted_exponent, optimal_n_win,
};

/// Pictures of 224² to 7168² pixels at stride 4.
const SIDES: [usize; 10] = [56, 112, 168, 224, 336, 448, 672, 896, 1344, 1792];
const DIM: usize = 64;

fn exponent(mechanism: Mechanism, part: fn(&AttentionCost) -> f64) -> f64 {
    let point = |side: usize| {
        let cost = mechanism.cost([side, side], DIM);
        ((side * side) as f64, part(&cost))
    };
    fitted_exponent(&SIDES.map(point))
}

/// Where S divides, Eq. 8 is what a module does, but for routing: its product of S² by S² means
/// takes S⁴C multiply-accumulates, half of the 2S⁴C that Eq. 8 has.
#[test]
fn equation_8_is_what_modules_do() {
    for (size, n_win, topk) in
        [([56, 56], 7, 1), ([56, 56], 14, 3), ([64, 96], 8, 4), ([14, 14], 7, 16), ([28, 28], 1, 1)]
    {
        let formula = bra_cost(size, DIM, n_win as f64, topk);
        let counted = Mechanism::BraCounted { topk, n_win: Some(n_win) }.cost(size, DIM);
        let halved = AttentionCost { routing: formula.routing / 2.0, ..formula };
        assert_eq!(counted, halved, "{size:?}, S = {n_win}, k = {topk}");
    }
    // Padded to 8 × 8 tokens a region, of 7 × 7 regions.
    let counted = Mechanism::BraCounted { topk: 1, n_win: Some(7) }.cost([50, 50], DIM);
    let padded = bra_cost([56, 56], DIM, 7.0, 1);
    assert_eq!([counted.projections, counted.attention], [padded.projections, padded.attention]);
}

/// One region that attends to itself is attention to all, and so is a window as large as the map.
#[test]
fn formulas_meet_where_mechanisms_do() {
    let full = Mechanism::Full.cost([28, 28], DIM);
    assert_eq!(Mechanism::Window { side: 28 }.cost([28, 28], DIM), full);
    let one_region = Mechanism::BraCounted { topk: 1, n_win: Some(1) }.cost([28, 28], DIM);
    assert_eq!(one_region.attention, full.attention);
    assert_eq!(one_region.projections, full.projections);
    // A map of one row: all tokens in the first layer, each alone in the second.
    let axial = Mechanism::Axial.cost([1, 100], DIM);
    assert_eq!(axial.attention, Mechanism::Full.cost([1, 100], DIM).attention * 1.01);
    assert_eq!(axial.projections, 2.0 * 3.0 * 100.0 * (DIM * DIM) as f64);
}

/// (HW)^(4/3) with Eq. 9, against 2 of full and 3/2 of axial attention: abstract and §3.3.
#[test]
fn routing_and_attention_grow_as_the_paper_says() {
    // Sums of ten logarithms below 40 in float64 are good to some 1e-14.
    for topk in [1, 4, 16] {
        let found = exponent(Mechanism::Bra { topk }, AttentionCost::core);
        assert!((found - 4.0 / 3.0).abs() < 1e-12, "k = {topk}: {found}");
    }
    for (mechanism, expected) in
        [(Mechanism::Full, 2.0), (Mechanism::Axial, 1.5), (Mechanism::Window { side: 7 }, 1.0)]
    {
        let found = exponent(mechanism, AttentionCost::core);
        assert!((found - expected).abs() < 1e-12, "{mechanism:?}: {found}");
    }
}

/// The bound of §3.3 with its misprint mended: 3C k^(2/3) 2^(1/3) (HW)^(4/3).
#[test]
fn the_least_cost_is_the_bound_of_the_paper() {
    for (size, topk) in [([56, 56], 1), ([200, 336], 4), ([31, 7], 16)] {
        let tokens = (size[0] * size[1]) as f64;
        let (channels, k) = (DIM as f64, topk as f64);
        let bound = 3.0 * channels * k.powf(2.0 / 3.0) * 2f64.cbrt() * tokens.powf(4.0 / 3.0);
        let found = bra_cost(size, DIM, optimal_n_win(size, topk), topk).core();
        assert!((found / bound - 1.0).abs() < 1e-12, "{found}, expected {bound}");
        let printed = bound / 2f64.cbrt() * 2f64.powf(4.0 / 3.0);
        assert!((found / printed - 0.5).abs() < 1e-12, "the paper prints (2HW)^(4/3)");
    }
}

/// A divisor of the sides is up to a third off the S of Eq. 9, which costs up to a fifth and moves the
/// fitted exponent by up to 0.02 on these maps. The S = 7 of the classifiers, which does not grow
/// with the map, gives that of full attention.
#[test]
fn built_modules_follow_with_an_s_that_divides() {
    assert_eq!([1, 4, 16].map(|topk| dividing_n_win([56, 56], topk)), [14, 14, 28]);
    assert_eq!(dividing_n_win([64, 96], 4), 16);
    assert_eq!(dividing_n_win([53, 59], 4), 1);
    for topk in [1, 4, 16] {
        let dividing = Mechanism::BraCounted { topk, n_win: None };
        let found = exponent(dividing, AttentionCost::core);
        assert!((found - 4.0 / 3.0).abs() < 0.02, "k = {topk}: {found}");
        let fixed = Mechanism::BraCounted { topk, n_win: Some(7) };
        assert!(exponent(fixed, AttentionCost::core) > 1.99, "k = {topk}");
    }
    // With the projections, which are linear in HW, it is less.
    let total = exponent(Mechanism::Bra { topk: 4 }, AttentionCost::total);
    assert!((total - 1.231).abs() < 1e-3, "{total}");
}

#[test]
#[should_panic(expected = "at least 2")]
fn one_size_has_no_exponent() {
    fitted_exponent(&[(49.0, 3.0), (49.0, 4.0)]);
}
