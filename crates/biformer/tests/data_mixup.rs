//! Mixup and CutMix: what is drawn, what is mixed, and what the targets become. Values against timm
//! are in `parity/training.rs`.

use biformer::data::{Mix, Mixup, MixupMode, mix_pictures, mixup_rng, soft_targets};

const SIZE: [usize; 2] = [12, 16];
const DRAWS: usize = 4000;

const PAPER: Mixup = Mixup {
    mixup_alpha: 0.8,
    cutmix_alpha: 1.0,
    prob: 1.0,
    switch_prob: 0.5,
    mode: MixupMode::Elem,
};

/// Four standard errors of the mean of `DRAWS` numbers of this standard deviation.
fn bound(deviation: f64) -> f64 {
    4.0 * deviation / (DRAWS as f64).sqrt()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    values.sum::<f64>() / DRAWS as f64
}

#[test]
fn mixup_draws_a_symmetric_beta_distribution() {
    let mixup = Mixup { cutmix_alpha: 0.0, ..PAPER };
    let mixes = mixup.draw(DRAWS, SIZE, &mut mixup_rng(0, 0, 0));
    let lambdas = || mixes.iter().map(|mix| mix.lambda(SIZE));
    // Variance of Beta(α, α): 1 / (4 (2α + 1)).
    let variance: f64 = 1.0 / (4.0 * (2.0 * 0.8 + 1.0));
    assert!((mean(lambdas()) - 0.5).abs() < bound(variance.sqrt()));
    let found = mean(lambdas().map(|lambda| (lambda - 0.5).powi(2)));
    // A square of at most 1/4 deviates by at most 1/8.
    assert!((found - variance).abs() < bound(0.125), "{found} {variance}");
}

#[test]
fn cutmix_takes_the_switch_probability() {
    let mixes = Mixup { switch_prob: 0.3, ..PAPER }.draw(DRAWS, SIZE, &mut mixup_rng(1, 0, 0));
    let boxes = mean(mixes.iter().map(|mix| f64::from(matches!(mix, Mix::Box(..)))));
    assert!((boxes - 0.3).abs() < bound(0.46), "{boxes}");
    for mix in &mixes {
        if let Mix::Box(rows, columns) = mix {
            assert!(rows.end <= SIZE[0] && columns.end <= SIZE[1], "{mix:?}");
            assert!((0.0..=1.0).contains(&mix.lambda(SIZE)));
        }
    }
}

#[test]
fn nothing_is_mixed_more_often_than_the_probability_says() {
    let mixes = Mixup { prob: 0.2, ..PAPER }.draw(DRAWS, SIZE, &mut mixup_rng(2, 0, 0));
    let plain = mean(mixes.iter().map(|mix| f64::from(*mix == Mix::Blend(1.0))));
    assert!((plain - 0.8).abs() < bound(0.4), "{plain}");
    assert!(!Mixup { prob: 0.0, ..PAPER }.is_active());
    assert!(!Mixup { mixup_alpha: 0.0, cutmix_alpha: 0.0, ..PAPER }.is_active());
}

#[test]
fn modes_share_what_they_say() {
    let draw = |mode, count| Mixup { mode, ..PAPER }.draw(count, SIZE, &mut mixup_rng(3, 0, 0));
    let batch = draw(MixupMode::Batch, 7);
    assert!(batch.iter().all(|mix| *mix == batch[0]));
    let pair = draw(MixupMode::Pair, 7);
    assert!((0..7).all(|i| pair[i] == pair[6 - i]));
    assert_ne!(pair[0], pair[1]);
    let elem = draw(MixupMode::Elem, 7);
    assert!((0..7).all(|i| (0..i).all(|j| elem[i] != elem[j])), "{elem:?}");
}

#[test]
fn numbers_follow_from_seed_epoch_and_batch() {
    let draw = |seed, epoch, batch| PAPER.draw(3, SIZE, &mut mixup_rng(seed, epoch, batch));
    assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
    for other in [draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0)] {
        assert_ne!(draw(1, 2, 3), other);
    }
}

/// Three pictures of one channel and 2 × 2 pixels, with values worked out by hand.
#[test]
fn pictures_are_mixed_with_those_at_the_other_end() {
    let mut pixels = vec![0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0];
    let mixes = [Mix::Blend(0.75), Mix::Blend(0.5), Mix::Box(0..1, 1..2)];
    mix_pictures(&mut pixels, &mixes, [2, 2]);
    assert_eq!(pixels[..4], [5.0, 6.0, 7.0, 8.0], "a quarter of the last");
    assert_eq!(pixels[4..8], [10.0, 11.0, 12.0, 13.0], "the middle one meets itself");
    assert_eq!(pixels[8..], [20.0, 1.0, 22.0, 23.0], "a pixel of the first, as it was");

    let targets = soft_targets(&[0, 1, 2], 3, 0.3, &mixes, [2, 2]);
    let expected = [0.625, 0.1, 0.275, 0.1, 0.8, 0.1, 0.275, 0.1, 0.625];
    for (found, expected) in targets.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{targets:?}");
    }
}

#[test]
fn an_empty_batch_stays_empty() {
    mix_pictures(&mut [], &[], SIZE);
    assert!(soft_targets(&[], 3, 0.1, &[], SIZE).is_empty());
    assert!(PAPER.draw(0, SIZE, &mut mixup_rng(0, 0, 0)).is_empty());
}
