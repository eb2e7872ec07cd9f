//! Token labeling: targets cut from label maps, MixToken, and the loss, against values by hand.

use biformer::classification::{
    ImageClassifierConfig, TokenTargets, soft_target_cross_entropy, swap_box, token_label_loss,
};
use biformer::data::{
    Framing, LabelMap, MixToken, RgbImage, TrainTransform, mixup_rng, token_label_targets,
};
use biformer::models::BiFormerConfig;
use burn::tensor::{Device, Distribution, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("float32")
}

fn assert_close(found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < bound, "{i}: {found}, expected {expected}");
    }
}

/// 2 × 2 cells; on the left class 0, on the right class 1, with these scores.
const SCORES: [f32; 4] = [2.0, 4.0, 6.0, 8.0];

fn map() -> LabelMap {
    LabelMap { grid: [2, 2], classes: vec![0, 1, 0, 1], scores: SCORES.to_vec() }
}

fn framing(piece: [u32; 4], flipped: bool) -> Framing {
    Framing { picture: (40, 20), piece, flipped }
}

/// Three classes, of which the third has a score of 0.
fn softmax(class_0: f32, class_1: f32) -> [f32; 3] {
    let exp = [class_0, class_1, 0.0].map(f32::exp);
    exp.map(|value| value / exp.iter().sum::<f32>())
}

/// Rounding of float32 in sums of a few numbers.
const ROUNDING: f32 = 2e-6;

#[test]
fn the_whole_picture_at_the_grid_of_the_map_is_the_map() {
    let targets = map().targets(&framing([0, 0, 40, 20], false), [2, 2], 3, 0.0);
    let expected = [
        softmax(8.0 / 4.0, 12.0 / 4.0), // the mean over all cells
        softmax(2.0, 0.0),
        softmax(0.0, 4.0),
        softmax(6.0, 0.0),
        softmax(0.0, 8.0),
    ];
    assert_close(&targets, &expected.concat(), ROUNDING);
}

#[test]
fn a_piece_lies_between_cells_and_is_mirrored_with_its_tokens() {
    // The middle half, all rows: half a column of each class, cell by cell down.
    let middle = map().targets(&framing([10, 0, 20, 20], false), [2, 1], 3, 0.0);
    let expected = [softmax(2.0, 3.0), softmax(1.0, 2.0), softmax(3.0, 4.0)];
    assert_close(&middle, &expected.concat(), ROUNDING);

    // The lower right quarter, in two columns: points at 0.75 and 1.25 cells, the latter beyond
    // the middle of the last cell.
    let piece = [20, 10, 20, 10];
    let [whole, left, right] = [softmax(0.0, 8.0), softmax(1.5, 6.0), softmax(0.0, 8.0)];
    let targets = map().targets(&framing(piece, false), [1, 2], 3, 0.0);
    assert_close(&targets, &[whole, left, right].concat(), ROUNDING);
    let mirrored = map().targets(&framing(piece, true), [1, 2], 3, 0.0);
    assert_close(&mirrored, &[whole, right, left].concat(), ROUNDING);
}

#[test]
fn targets_are_smoothed_distributions_whatever_the_scores() {
    let smoothed = map().targets(&framing([0, 0, 20, 10], false), [1, 1], 3, 0.3);
    let expected = softmax(2.0, 0.0).map(|p| 0.7 * p + 0.1);
    assert_close(&smoothed, &[expected, expected].concat(), ROUNDING);
    for score in [-300.0, 300.0] {
        let map = LabelMap { scores: vec![score; 4], ..map() };
        let targets = map.targets(&framing([3, 1, 30, 7], true), [7, 7], 2, 0.0);
        assert!(
            targets.chunks(2).all(|p| (p.iter().sum::<f32>() - 1.0).abs() < ROUNDING),
            "{score}"
        );
    }
}

/// What is told of the piece is what the pixels show.
#[test]
fn framing_tells_the_piece_of_the_pixels() {
    let image = RgbImage::from_fn(64, 48, |x, y| [(x * 4) as u8, (y * 5) as u8, 0].into());
    let transform = TrainTransform { scale: (0.1, 0.5), ..TrainTransform::new(32) };
    for seed in 0..8 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (pixels, framing) = transform.apply_framed(&image, &mut rng);
        assert_eq!(pixels, transform.apply(&image, &mut StdRng::seed_from_u64(seed)));
        assert_eq!(framing.picture, (64, 48));
        let [left, top, width, height] = framing.piece;
        let red = |x: usize| (pixels[16 * 32 + x] * 0.229 + 0.485) * 255.0 / 4.0;
        let (first, last) = if framing.flipped { (red(31), red(0)) } else { (red(0), red(31)) };
        // Within a pixel of the picture and the rounding of its colour.
        assert!((first - left as f32).abs() < 1.5, "{first} {framing:?}");
        assert!((last - (left + width - 1) as f32).abs() < 1.5, "{last} {framing:?}");
        let middle = (pixels[32 * 32 + 16 * 32] * 0.224 + 0.456) * 255.0 / 5.0;
        assert!((middle - (top as f32 + height as f32 / 2.0)).abs() < 1.5, "{middle} {framing:?}");
    }
}

#[test]
fn class_targets_weigh_annotator_and_truth() {
    let truth = [1.0, 0.0, 0.0, 1.0];
    let annotator = [0.8, 0.2, 0.6, 0.4];
    // The annotator agrees on the first picture, r = 0.5, and not on the second, r = 0.9.
    let expected = [0.9, 0.1, 0.54, 0.46];
    assert_close(&token_label_targets(&truth, &annotator, 2, 1.0), &expected, ROUNDING);
    let mixed = token_label_targets(&truth, &annotator, 2, 0.75);
    assert_close(&mixed, &[0.81, 0.19, 0.63, 0.37], ROUNDING);
}

#[test]
fn boxes_follow_lambda_and_the_seed() {
    let draw = |batch| MixToken::draw([7, 7], &mut mixup_rng(3, 1, batch));
    assert_eq!(draw(5), draw(5));
    let lambdas: Vec<f64> = (0..2000).map(|batch| draw(batch).lambda([7, 7])).collect();
    assert!(lambdas.iter().all(|lambda| (0.0..=1.0).contains(lambda)));
    // λ of Beta(1, 1) would have a mean of 0.5; odd sides are rounded down and boxes cut at the border.
    let mean = lambdas.iter().sum::<f64>() / 2000.0;
    assert!((0.6..0.85).contains(&mean), "{mean}");
    assert_eq!(MixToken { rows: 0..3, columns: 2..4 }.lambda([3, 4]), 0.5);
}

#[test]
fn a_box_is_swapped_and_swapped_back() {
    let device = Device::default();
    let mix = MixToken { rows: 1..2, columns: 0..2 };
    let x = Tensor::<4>::random([3, 4, 6, 2], Distribution::Default, &device);
    let swapped = swap_box(x.clone(), &mix, [2, 3]); // a cell is 2 × 2
    let (before, after) = (values(x.clone()), values(swapped.clone()));
    for (i, after) in after.iter().enumerate() {
        let (picture, row, column) = (i / 48, i / 12 % 4, i / 2 % 6);
        let source = if row >= 2 && column < 4 { 2 - picture } else { picture };
        assert_eq!(*after, before[source * 48 + i % 48], "{picture} {row} {column}");
    }
    assert_eq!(values(swap_box(swapped, &mix, [2, 3])), before);
    let nothing = MixToken { rows: 1..1, columns: 0..3 };
    assert_eq!(values(swap_box(x, &nothing, [2, 3])), before);
}

/// Stem, swap, stages, heads, swap, two cross entropies: step by step.
#[test]
fn the_loss_is_that_of_the_class_and_half_of_that_of_the_tokens() {
    let device = Device::default();
    let config = ImageClassifierConfig {
        num_classes: 5,
        class_blocks: 1,
        aux_head: true,
        ..ImageClassifierConfig::new(BiFormerConfig::nano())
    };
    let model = config.init(&device);
    let images = Tensor::<4>::random([4, 3, 64, 96], Distribution::Normal(0.0, 1.0), &device);
    let [plain, .., _] = model.backbone.forward_stages(images.clone());
    let [with, .., _] = model.backbone.forward_stages_with(images.clone(), |x| x);
    assert_close(&values(with), &values(plain), 1e-4); // picture by picture, or all in one product

    let distribution = |dims| {
        let x = Tensor::<4>::random(dims, Distribution::Default, &device);
        x.clone() / x.sum_dim(3)
    };
    let targets = distribution([4, 1, 1, 5]).reshape([4, 5]);
    let token_targets = distribution([4, 2, 3, 5]);
    let mix = MixToken { rows: 0..1, columns: 1..3 };
    let tokens = TokenTargets {
        targets: token_targets.clone(),
        mix: Some(mix),
        cls_weight: 2.0,
        dense_weight: 0.25,
    };
    let (loss, logits) = token_label_loss(&model, images.clone(), targets.clone(), &tokens);

    // By hand: x + mask · (reversed x − x).
    let swap = |x: Tensor<4>, cell: usize| {
        let [_, height, width, _] = x.dims();
        let inside = |i: usize| i / width < cell && i % width >= cell;
        let mask: Vec<f32> = (0..height * width).map(|i| f32::from(u8::from(inside(i)))).collect();
        let mask =
            Tensor::<1>::from_floats(mask.as_slice(), &device).reshape([1, height, width, 1]);
        let reversed = Tensor::cat((0..4).rev().map(|i| x.clone().narrow(0, i, 1)).collect(), 0);
        x.clone() + (reversed - x) * mask
    };
    let mut x = swap(model.backbone.downsample_layers[0].forward(images.permute([0, 2, 3, 1])), 8);
    for (i, stage) in model.backbone.stages.iter().enumerate() {
        if i > 0 {
            x = model.backbone.downsample_layers[i].forward(x);
        }
        x = stage.blocks.iter().fold(x, |x, block| block.forward(x));
    }
    let (class, of_tokens) = model.classify_tokens(x);
    let of_tokens = swap(of_tokens, 1).reshape([24, 5]);
    let class_loss = soft_target_cross_entropy(class.clone(), targets);
    let token_loss = soft_target_cross_entropy(of_tokens, token_targets.reshape([24, 5]));
    assert_close(&values(logits), &values(class), 1e-5);
    assert_close(&values(loss), &values(class_loss * 2.0 + token_loss * 0.25), 1e-5);
}

/// A token's gradient comes from the picture whose box it is in.
#[test]
fn gradients_pass_the_swap() {
    let device = Device::default().autodiff();
    let mix = MixToken { rows: 0..1, columns: 0..1 };
    let x = Tensor::<4>::random([2, 1, 2, 1], Distribution::Default, &device).require_grad();
    let weights = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &device).reshape([2, 1, 2, 1]);
    let gradients = (swap_box(x.clone(), &mix, [1, 2]) * weights).sum().backward();
    let gradient = x.grad(&gradients).expect("a gradient");
    assert_eq!(values(gradient), [3.0, 2.0, 1.0, 4.0]);
}
