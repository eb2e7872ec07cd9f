//! Parameters and multiply-accumulates of the models of Table 5, beside formulas and published figures.

use biformer::analysis::{LayerCost, classifier_costs};
use biformer::attention::StlMechanism;
use biformer::classification::ImageClassifierConfig;
use biformer::models::BiFormerConfig;
use burn::tensor::Device;

const DEPTHS: [usize; 4] = [2, 2, 6, 2];
const DIMS: [usize; 4] = [96, 192, 384, 768];
const HEADS: [usize; 4] = [3, 6, 12, 24];
/// Tokens a side at 224².
const SIDES: [usize; 4] = [56, 28, 14, 7];

fn costs(config: BiFormerConfig) -> Vec<LayerCost> {
    classifier_costs(&ImageClassifierConfig::new(config).init(&Device::default()), [224, 224])
}

fn params(costs: &[LayerCost]) -> usize {
    costs.iter().map(|cost| cost.params).sum()
}

/// Swin-T of the paper: 28.3 M and 4.5 G; 28,288,354 in Microsoft's table of models and in timm.
#[test]
fn swin_tiny_is_swin_t() {
    let costs = costs(BiFormerConfig::swin_tiny());
    assert_eq!(params(&costs), 28_288_354);
    let macs = costs.iter().map(|cost| cost.macs).sum::<usize>() as f64 / 1e9;
    assert!((macs - 4.5).abs() < 0.05, "{macs}");
}

/// DAT-T of its paper has 29 M and 4.6 G, with Swin's embedding. (It writes 29 M for Swin-T, too, which has 28.3.)
#[test]
fn deformable_is_near_dat_t() {
    let costs = costs(BiFormerConfig::stl_with(StlMechanism::Deformable));
    assert!((params(&costs) as f64 / 1e6 - 29.0).abs() < 1.0);
    let macs = costs.iter().map(|cost| cost.macs).sum::<usize>() as f64 / 1e9;
    assert!((macs - 4.6).abs() < 0.05, "{macs}");
}

/// What each mechanism has beside Q, K, V and output projection with bias, which all have.
#[test]
fn parameters_are_those_of_the_formulas() {
    let full = params(&costs(BiFormerConfig::stl_with(StlMechanism::Full)));
    for mechanism in StlMechanism::ALL {
        let of_block = |stage: usize, block: usize| {
            let (dim, heads) = (DIMS[stage], HEADS[stage]);
            let table = 13 * 13 * heads;
            let second = block % 2 == 1;
            match mechanism {
                StlMechanism::SlidingWindow => 7 * 7 * heads,
                StlMechanism::ShiftedWindow | StlMechanism::BlockGrid => table,
                StlMechanism::SequentialAxial | StlMechanism::CrissCross | StlMechanism::Full => 0,
                StlMechanism::CrossShaped => 9 * dim + dim,
                StlMechanism::SpatiallySeparable if second && stage < 3 => {
                    let cell = 8 >> stage;
                    cell * cell * dim * dim + dim + 2 * dim
                }
                StlMechanism::SpatiallySeparable => 0,
                StlMechanism::Deformable if second && stage >= 2 => {
                    // Groups of 4 heads, 128 channels.
                    let kernel = if stage == 2 { 25 } else { 9 };
                    let offsets = kernel * 128 + 128 + 2 * 128 + 2 * 128;
                    offsets + heads * (2 * SIDES[stage] - 1).pow(2)
                }
                StlMechanism::Deformable => table,
                StlMechanism::QuadTree => {
                    let levels = 4 - stage;
                    let branch = 2 * dim + (4 * dim * dim + dim) + 2 * dim + (dim * dim + dim);
                    (levels - 1) * branch + levels * (9 * dim + dim) + levels
                }
            }
        };
        let blocks = (0..4).flat_map(|stage| (0..DEPTHS[stage]).map(move |block| (stage, block)));
        let more: usize = blocks.map(|(stage, block)| of_block(stage, block)).sum();
        let found = params(&costs(BiFormerConfig::stl_with(mechanism)));
        assert_eq!(found, full + more, "{mechanism}");
    }
}

/// Q Kᵀ and weights times V: 2 C for each pair of a query and a key.
#[test]
fn attention_costs_what_the_papers_say() {
    for mechanism in StlMechanism::ALL {
        let keys = |stage: usize, block: usize| {
            let (side, tokens) = (SIDES[stage], SIDES[stage] * SIDES[stage]);
            match mechanism {
                StlMechanism::SlidingWindow
                | StlMechanism::ShiftedWindow
                | StlMechanism::BlockGrid
                | StlMechanism::SpatiallySeparable => 49,
                StlMechanism::SequentialAxial => side,
                StlMechanism::CrissCross => 2 * side - 1,
                StlMechanism::CrossShaped => [56, 2 * 28, 7 * 14, 49][stage],
                StlMechanism::Deformable if stage >= 2 && block % 2 == 1 => tokens,
                StlMechanism::Deformable => 49,
                StlMechanism::Full => tokens,
                // All of 7 × 7, a 4th, a 16th and a 64th of the queries; 4 · 8 on each finer level.
                StlMechanism::QuadTree => return None,
            }
            .into()
        };
        let expected = |stage: usize, block: usize| {
            let (tokens, dim) = (SIDES[stage] * SIDES[stage], DIMS[stage]);
            match keys(stage, block) {
                Some(keys) => 2 * tokens * keys * dim,
                None => {
                    let finer: usize =
                        (0..3 - stage).map(|level| (tokens >> (2 * level)) * 32).sum();
                    2 * (finer + 49 * 49) * dim
                }
            }
        };
        let blocks = (0..4).flat_map(|stage| (0..DEPTHS[stage]).map(move |block| (stage, block)));
        let expected: usize = blocks.map(|(stage, block)| expected(stage, block)).sum();
        let costs = costs(BiFormerConfig::stl_with(mechanism));
        let of_attention = costs.iter().filter(|cost| cost.name.ends_with(".attention"));
        assert_eq!(of_attention.map(|cost| cost.macs).sum::<usize>(), expected, "{mechanism}");
    }
}
