//! Which pictures of a batch belong to which process.

/// One of several processes that share every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
}

impl Default for Shard {
    /// The only one.
    fn default() -> Self {
        Self { rank: 0, size: 1 }
    }
}

impl Shard {
    /// The places of its pictures in a whole batch of `of`, in ascending order.
    ///
    /// Mixup mixes the first picture with the last, the second with the last but one: where
    /// every process gets as many such pairs, it gets both of each, and they are partners
    /// in its own part too.
    pub fn places(&self, of: usize) -> Vec<usize> {
        if !of.is_multiple_of(2 * self.size) {
            return self.part(of).collect();
        }
        let front = self.part(of / 2);
        let back = front.clone().rev().map(|place| of - 1 - place);
        front.chain(back).collect()
    }

    /// A run of nearly `count / size`.
    fn part(&self, count: usize) -> std::ops::Range<usize> {
        count * self.rank / self.size..count * (self.rank + 1) / self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_belongs_to_one_process_and_partners_stay_together() {
        for (size, of) in [(1, 7), (1, 8), (2, 8), (2, 6), (3, 12), (3, 10), (4, 3), (2, 0)] {
            let shards = (0..size).map(|rank| Shard { rank, size });
            let parts: Vec<_> = shards.map(|shard| shard.places(of)).collect();
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..of).collect::<Vec<_>>(), "{size} processes, {of} pictures");
            for part in parts {
                assert!(part.is_sorted());
                let mirrored = part.iter().rev().map(|place| of - 1 - place);
                assert!(of % (2 * size) != 0 || mirrored.eq(part.iter().copied()), "{part:?}");
            }
        }
    }
}
