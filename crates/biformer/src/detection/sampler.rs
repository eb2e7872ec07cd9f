//! Which of the assigned boxes a two-stage detector learns from (mmdetection's `RandomSampler`).

use rand::Rng;
use rand::seq::index;

use super::assigner::Match;

/// How many boxes of a picture count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomSampler {
    /// Boxes in all, if there are as many.
    pub num: usize,
    /// Greatest share of objects among them.
    pub positive_fraction: f64,
}

/// Indices into the assigned boxes, each ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Boxes that stand for an object.
    pub positive: Vec<usize>,
    /// Boxes of background.
    pub negative: Vec<usize>,
}

impl RandomSampler {
    /// Of region proposals: 256, half of them objects.
    pub const RPN: Self = Self { num: 256, positive_fraction: 0.5 };

    /// Of the heads of Mask R-CNN: 512, a quarter of them objects.
    pub const REGIONS: Self = Self { num: 512, positive_fraction: 0.25 };

    /// Draws objects up to their share, then background for the rest.
    pub fn sample(&self, matches: &[Match], rng: &mut impl Rng) -> Sample {
        let places = |is_wanted: fn(&Match) -> bool| -> Vec<usize> {
            let wanted = matches.iter().enumerate().filter(|(_, found)| is_wanted(found));
            wanted.map(|(place, _)| place).collect()
        };
        let most_positive = (self.num as f64 * self.positive_fraction) as usize;
        let positive = places(|found| matches!(found, Match::Object(_)));
        let positive = draw(positive, most_positive, rng);
        let negative = places(|found| *found == Match::Background);
        let negative = draw(negative, self.num - positive.len(), rng);
        Sample { positive, negative }
    }
}

/// At most `count` of the places, in their order.
fn draw(places: Vec<usize>, count: usize, rng: &mut impl Rng) -> Vec<usize> {
    if places.len() <= count {
        return places;
    }
    let mut drawn = index::sample(rng, places.len(), count).into_vec();
    drawn.sort_unstable();
    drawn.into_iter().map(|i| places[i]).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn matches(objects: usize, background: usize) -> Vec<Match> {
        let ignored = std::iter::repeat_n(Match::Ignored, 10);
        let objects = (0..objects).map(Match::Object);
        ignored.chain(objects).chain(std::iter::repeat_n(Match::Background, background)).collect()
    }

    #[test]
    fn background_fills_up_what_objects_leave() {
        let sampler = RandomSampler { num: 16, positive_fraction: 0.25 };
        let sample =
            |matches: &[Match], seed| sampler.sample(matches, &mut StdRng::seed_from_u64(seed));
        for (objects, background, expected) in
            [(3, 100, [3, 13]), (50, 100, [4, 12]), (0, 100, [0, 16]), (50, 5, [4, 5])]
        {
            let matches = matches(objects, background);
            let Sample { positive, negative } = sample(&matches, 7);
            assert_eq!([positive.len(), negative.len()], expected);
            assert!(positive.iter().all(|&i| matches!(matches[i], Match::Object(_))));
            assert!(negative.iter().all(|&i| matches[i] == Match::Background));
            assert!(positive.is_sorted() && negative.is_sorted());
        }
        let many = matches(50, 100);
        assert_eq!(sample(&many, 1), sample(&many, 1));
        assert_ne!(sample(&many, 1), sample(&many, 2));
    }
}
