//! Batches: order, repeats, and what cannot be read.

use std::path::Path;

use biformer::Error;
use biformer::data::{Batch, DataLoader, Picture, RgbImage, Sample, Shard};
use rand::RngExt;
use rand::rngs::StdRng;
use tempfile::{TempDir, tempdir};

#[test]
fn every_picture_comes_once_an_epoch_in_an_order_of_its_own() {
    let (_folder, samples) = pictures(23);
    let loader = DataLoader { batch_size: 23, ..loader(samples) };
    let [first, again, next] = [0, 0, 1].map(|epoch| labels(&epoch_of(&loader, epoch)));
    assert_eq!(first, again);
    assert_ne!(first, next);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..23).collect::<Vec<_>>());
    let seed = DataLoader { seed: 8, ..loader.clone() };
    assert_ne!(labels(&epoch_of(&seed, 0)), first);
    let sequence = DataLoader { shuffle: false, batch_size: 5, ..loader };
    assert_eq!(labels(&epoch_of(&sequence, 0)), (0..23).collect::<Vec<_>>());
}

#[test]
fn repeated_augmentation_keeps_the_length_and_augments_each_copy() {
    let (_folder, samples) = pictures(20);
    let once = DataLoader { batch_size: 20, ..loader(samples) };
    let thrice = DataLoader { aug_repeats: 3, ..once.clone() };
    let order = labels(&epoch_of(&once, 4));
    let batches = epoch_of(&thrice, 4);
    // The first seven pictures of the same order, three times each; the last one is cut off.
    let expected: Vec<usize> =
        order.iter().take(7).flat_map(|label| [*label; 3]).take(20).collect();
    assert_eq!(labels(&batches), expected);
    assert_eq!(thrice.batches(), once.batches());

    let draws = draws(&batches);
    let once_draws = self::draws(&epoch_of(&once, 4));
    for (place, copies) in draws.chunks(3).enumerate() {
        assert_eq!(copies[0], once_draws[place], "the first copy is that of no repeats");
        assert!(copies.iter().skip(1).all(|draw| *draw != copies[0]));
    }
}

#[test]
fn no_repeats_are_one_or_none_and_draws_belong_to_the_picture() {
    let (_folder, samples) = pictures(12);
    let one = loader(samples);
    let stream = |loader: &DataLoader| {
        let batches = epoch_of(loader, 2);
        labels(&batches).into_iter().zip(draws(&batches)).collect::<Vec<_>>()
    };
    assert_eq!(stream(&one), stream(&DataLoader { aug_repeats: 0, ..one.clone() }));
    let mut by_picture = stream(&one);
    by_picture.sort_by_key(|(label, _)| *label);
    let sequence = DataLoader { shuffle: false, batch_size: 3, ..one.clone() };
    assert_eq!(stream(&sequence), by_picture, "neither order nor batch changes a picture's draw");
    let repeats = DataLoader { aug_repeats: 3, batch_size: 4, ..one.clone() };
    let other_batches = DataLoader { batch_size: 6, ..repeats.clone() };
    assert_eq!(stream(&repeats), stream(&other_batches));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (_folder, samples) = pictures(40);
    let loader = DataLoader { aug_repeats: 3, workers: 1, ..loader(samples) };
    let alone = epoch_of(&loader, 0);
    for workers in [2, 7, 64] {
        let together = epoch_of(&DataLoader { workers, ..loader.clone() }, 0);
        assert_eq!(labels(&together), labels(&alone));
        assert_eq!(draws(&together), draws(&alone));
    }
}

#[test]
fn an_epoch_may_be_left_and_a_panic_is_passed_on() {
    let (_folder, samples) = pictures(40);
    let loader = DataLoader { shuffle: false, ..loader(samples) };
    let first = loader.clone().epoch(0, 0, Box::new(transform)).next().unwrap();
    assert_eq!(first.labels, [0, 1, 2, 3, 4, 5]);

    let panics = |_: &Path, image: &RgbImage, _: &mut StdRng| match image.get_pixel(0, 0)[0] {
        20 => panic!("twenty"),
        level => Ok(vec![f32::from(level); 2].into()),
    };
    let batches = loader.epoch(0, 0, Box::new(panics));
    let all = std::panic::AssertUnwindSafe(|| batches.count());
    let panic = std::panic::catch_unwind(all).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"twenty"));
}

#[test]
fn an_epoch_goes_on_from_any_batch() {
    let (_folder, samples) = pictures(14);
    let loader = DataLoader { aug_repeats: 2, batch_size: 4, ..loader(samples) };
    let all = epoch_of(&loader, 1);
    assert_eq!(all.len(), 3, "an incomplete last batch is left out");
    let rest: Vec<Batch> = loader.epoch(1, 2, Box::new(transform)).collect();
    assert_eq!(rest.len(), 1);
    assert_eq!((&rest[0].pixels, &rest[0].labels), (&all[2].pixels, &all[2].labels));
}

/// Two processes with half the batch see what one sees: the same batches, in parts, however many
/// pictures there are.
#[test]
fn shards_are_parts_of_the_same_batches() {
    for (count, shuffle) in [(14, true), (14, false), (3, true), (13, false)] {
        let (_folder, samples) = pictures(count);
        let whole = DataLoader { shuffle, ..loader(samples) };
        let parts = [0, 1].map(|rank| {
            let shard = Shard { rank, size: 2 };
            let batch_size = whole.batch_size / 2;
            epoch_of(&DataLoader { batch_size, shard, ..whole.clone() }, 3)
        });
        let whole = epoch_of(&whole, 3);
        assert!(parts.iter().all(|part| part.len() == whole.len()));
        for (number, batch) in whole.iter().enumerate() {
            let (mut found, mut draws_found) = (vec![usize::MAX; batch.of], vec![-1.0; batch.of]);
            for (rank, part) in parts.iter().enumerate() {
                let part = &part[number..=number];
                assert_eq!(part[0].of, batch.of);
                let places = Shard { rank, size: 2 }.places(batch.of);
                for ((place, label), draw) in places.into_iter().zip(labels(part)).zip(draws(part))
                {
                    (found[place], draws_found[place]) = (label, draw);
                }
            }
            let batch = std::slice::from_ref(batch);
            assert_eq!((found, draws_found), (labels(batch), draws(batch)), "{count} pictures");
        }
    }
}

#[test]
fn what_cannot_be_decoded_is_left_out_and_named() {
    let (folder, samples) = pictures(5);
    std::fs::write(samples[2].0.path(), "no picture").unwrap();
    std::fs::remove_file(samples[4].0.path()).unwrap();
    let sequence = DataLoader { shuffle: false, batch_size: 5, ..loader(samples.clone()) };
    let batches = epoch_of(&sequence, 0);
    assert_eq!(labels(&batches), [0, 1, 3]);
    assert_eq!(batches[0].pixels.len(), 2 * 3);
    let skipped: Vec<_> = batches[0].skipped.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(skipped, [samples[2].0.path(), samples[4].0.path()]);
    assert!(batches[0].skipped[0].1.contains("2.png"), "{:?}", batches[0].skipped);
    drop(folder);
}

/// `count` pictures of one pixel, the label of each its number.
fn pictures(count: usize) -> (TempDir, Vec<(Picture, usize)>) {
    let folder = tempdir().unwrap();
    let picture = |label: usize| {
        let path = folder.path().join(format!("{label}.png"));
        RgbImage::from_pixel(1, 1, [label as u8; 3].into()).save(&path).unwrap();
        (path.into(), label)
    };
    let samples = (0..count).map(picture).collect();
    (folder, samples)
}

fn loader(samples: Vec<(Picture, usize)>) -> DataLoader {
    DataLoader { shuffle: true, seed: 7, ..DataLoader::new(samples, 6) }
}

/// The level of the picture, and a number drawn for it.
fn transform(_: &Path, image: &RgbImage, rng: &mut StdRng) -> Result<Sample, Error> {
    Ok(vec![f32::from(image.get_pixel(0, 0)[0]), rng.random()].into())
}

fn epoch_of(loader: &DataLoader, epoch: usize) -> Vec<Batch> {
    loader.clone().epoch(epoch, 0, Box::new(transform)).collect()
}

/// The labels in order; each must be that of its picture.
fn labels(batches: &[Batch]) -> Vec<usize> {
    for batch in batches {
        for (pixels, label) in batch.pixels.chunks(2).zip(&batch.labels) {
            assert_eq!(pixels[0], *label as f32);
        }
    }
    batches.iter().flat_map(|batch| batch.labels.clone()).collect()
}

fn draws(batches: &[Batch]) -> Vec<f32> {
    batches.iter().flat_map(|batch| batch.pixels.chunks(2).map(|pixels| pixels[1])).collect()
}
