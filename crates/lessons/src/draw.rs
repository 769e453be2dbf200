//! Choices: a row of random numbers for one item of one kind of data.
//!
//! Item `index` of a kind is made from `f(seed, stream, index)` alone, so items can be made in any order, by
//! any thread, and twice. Within an item, choices are numbered in the order in which they are made.

use std::ops::RangeInclusive;

use kernels::rng;

use ::text::streams;

/// Which kind of data an item belongs to: kinds share no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Stream {
    Text = 1,
    Demonstration = 2,
    TrainPrompt = 3,
    HeldOutPrompt = 4,
    TaskRow = 5,
    HeldOutTaskRow = 6,
    PlainText = 7,
    Calculator = 8,
    CalculatorPrompt = 9,
}

/// The choices of one item.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    seed: u64,
    drawn: u64,
}

impl Draw {
    pub(super) fn new(seed: u64, stream: Stream, index: u64) -> Draw {
        Draw { seed: rng::bits(seed, streams::LESSONS.at(stream as u64), index), drawn: 0 }
    }

    /// Uniform in `0 .. n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "nothing to choose from");
        self.drawn += 1;
        rng::below(self.seed, 0, self.drawn, n as u64) as usize
    }

    pub(super) fn within(&mut self, range: RangeInclusive<u32>) -> u32 {
        range.start() + self.below((range.end() - range.start() + 1) as usize) as u32
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.drawn += 1;
        f64::from(rng::uniform(self.seed, 0, self.drawn)) < share
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// `N` different elements, in random order.
    pub(super) fn several<'a, T, const N: usize>(&mut self, from: &'a [T]) -> [&'a T; N] {
        assert!(from.len() >= N, "{N} different of {}", from.len());
        let mut taken = [usize::MAX; N];
        for i in 0..N {
            let fresh = std::iter::repeat_with(|| self.below(from.len())).find(|at| !taken[..i].contains(at));
            taken[i] = fresh.expect("an endless row");
        }
        taken.map(|at| &from[at])
    }

    /// The index of one of `weights`, each as likely as it is heavy.
    pub(super) fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut lot = self.below(weights.iter().sum::<u32>() as usize) as u32;
        let chosen = weights.iter().position(|weight| {
            let hit = lot < *weight;
            lot = lot.saturating_sub(*weight);
            hit
        });
        chosen.expect("a lot below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_have_the_frequencies_that_were_asked_for() {
        let mut counts = [0u32; 3];
        for index in 0..30_000 {
            counts[Draw::new(1, Stream::Text, index).weighted(&[1, 0, 2])] += 1;
        }
        assert!((9_600..10_400).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
        let mut draw = Draw::new(1, Stream::Text, 0);
        for _ in 0..1000 {
            let [a, b, c] = draw.several(&[1, 2, 3]);
            assert_eq!(a + b + c, 6);
            assert!((3..=5).contains(&draw.within(3..=5)));
        }
    }

    #[test]
    fn items_and_kinds_share_nothing() {
        let row = |stream, index| {
            let mut draw = Draw::new(7, stream, index);
            [0; 8].map(|_| draw.below(1000))
        };
        assert_eq!(row(Stream::Text, 3), row(Stream::Text, 3));
        assert_ne!(row(Stream::Text, 3), row(Stream::Text, 4));
        assert_ne!(row(Stream::Text, 3), row(Stream::Demonstration, 3));
    }
}
