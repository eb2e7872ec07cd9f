//! Batches of pictures of like shape.

use std::path::{Path, PathBuf};

use biformer::Result;
use biformer::data::{DataLoader, Example, Shard};

/// A picture that is its number; odd ones are of another group.
struct Numbered(usize, PathBuf);

impl Example for Numbered {
    type Decoded = ();

    fn path(&self) -> &Path {
        &self.1
    }

    fn decode(&self) -> Result<()> {
        Ok(())
    }

    fn group(&self) -> usize {
        self.0 % 2
    }
}

fn batches(of: usize, shuffle: bool, shard: Shard, epoch: usize) -> Vec<Vec<usize>> {
    let samples = (0..of).map(|number| Numbered(number, format!("{number}.png").into())).collect();
    let loader = DataLoader { shuffle, seed: 3, shard, ..DataLoader::new(samples, 4 / shard.size) };
    let expected = loader.batches();
    let batches: Vec<_> =
        loader.load(epoch, 0, |sample, (), _| Ok(sample.0)).map(|batch| batch.samples).collect();
    assert_eq!(batches.len(), expected);
    batches
}

#[test]
fn shuffled_batches_are_of_one_group_as_far_as_they_can_be() {
    let alone = Shard::default();
    let first = batches(46, true, alone, 0);
    // 23 of each: five batches of each, and 3 + 3 left, which make one more.
    assert_eq!(first.len(), 11);
    let is_mixed = |batch: &&Vec<usize>| batch.iter().any(|number| number % 2 != batch[0] % 2);
    assert_eq!(first.iter().filter(is_mixed).count(), 1);
    assert!(is_mixed(&first.last().unwrap()));
    assert!(first.iter().all(|batch| batch.len() == 4));
    let mut seen: Vec<_> = first.concat();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 44);
    assert_ne!(first, batches(46, true, alone, 1));
    // Two processes have a half of each batch.
    let halves = [0, 1].map(|rank| batches(46, true, Shard { rank, size: 2 }, 0));
    for (place, whole) in first.iter().enumerate() {
        let mut both = [halves[0][place].as_slice(), &halves[1][place]].concat();
        let mut whole = whole.clone();
        both.sort_unstable();
        whole.sort_unstable();
        assert_eq!(both, whole);
    }
    // In order, nothing moves and nothing is left out.
    assert_eq!(batches(46, false, alone, 0).concat(), (0..46).collect::<Vec<_>>());
}
