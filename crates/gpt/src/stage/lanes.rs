//! How a step is cut: its examples into lanes, in which gradients, losses and figures are summed, and the
//! examples of a lane into micro-batches, which go through a model together.
//!
//! An example is whatever its loss couples: a window, a conversation, all answers of a ranking, all sequences
//! of a labelled text, an episode.

use crate::train::{Lane, LaneSums};
use anyhow::{Result, ensure};
use ranks::Ranks;
use std::ops::Range;

/// The lanes of a step's examples.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    count: usize,
    /// Those that this process computes.
    own: Range<usize>,
    /// The number of the first.
    first: usize,
}

/// Some examples of a lane, by their places among those of the step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MicroBatch {
    pub(super) lane: Lane,
    pub(super) examples: Range<usize>,
}

impl Lanes {
    /// As many as a recipe has.
    pub(super) fn new(count: usize) -> Self {
        Lanes { count, own: 0..count, first: 0 }
    }

    /// The same, of which each of `ranks` computes some.
    pub(super) fn of(self, ranks: &Ranks) -> Self {
        Lanes { own: ranks.share(self.count), ..self }
    }

    /// Those of examples that the same step has besides: the sums of both are added at the end. In the only
    /// lane they follow the others.
    pub(super) fn besides(self) -> Self {
        Lanes { first: if self.count > 1 { self.first + self.count } else { 0 }, ..self }
    }

    /// How many a step has of which no two are added but at the end: what decides memory.
    pub(super) fn in_all(&self, besides: bool) -> usize {
        if besides && self.count > 1 { 2 * self.own.len() } else { self.own.len() }
    }

    /// Cuts examples of these lengths into lanes, none of which has two more than another, and those of a
    /// lane into micro-batches of at most `most` tokens, or of one example.
    pub(super) fn cut(&self, lens: impl IntoIterator<Item = usize>, most: usize) -> Vec<MicroBatch> {
        let lens: Vec<usize> = lens.into_iter().collect();
        let mut micro_batches = Vec::new();
        for lane in self.own.clone() {
            let [start, end] = [lane, lane + 1].map(|lane| lane * lens.len() / self.count);
            let lane = if self.count > 1 { Lane::Number(self.first + lane) } else { Lane::Only };
            let places = |run: Range<usize>| start + run.start..start + run.end;
            let runs = passes(lens[start..end].iter().copied(), most).into_iter();
            micro_batches.extend(runs.map(|run| MicroBatch { lane, examples: places(run) }));
        }
        micro_batches
    }
}

/// Refuses ranks that cannot have as many lanes as each other.
///
/// # Errors
/// Their number does not divide that of lanes.
pub(super) fn check(lanes: usize, ranks: &Ranks) -> Result<()> {
    let size = ranks.size();
    ensure!(
        lanes > 1 || size == 1,
        "this run adds up its gradients in one lane, which one process does: start one, or begin another run in more lanes \
         (--set lanes=8; --out)"
    );
    ensure!(
        lanes.is_multiple_of(size),
        "{size} processes cannot share {lanes} lanes: start a power of two that is at most {lanes}, or begin another run in \
         more lanes (--set lanes=…)"
    );
    Ok(())
}

/// Cuts a list of examples of these lengths into runs that are passed through a model together: `most`
/// tokens, or one example.
pub(super) fn passes(lens: impl IntoIterator<Item = usize>, most: usize) -> Vec<Range<usize>> {
    let (mut runs, mut start, mut rows, mut end) = (Vec::new(), 0, 0, 0);
    for len in lens {
        if end > start && rows + len > most {
            runs.push(start..end);
            (start, rows) = (end, 0);
        }
        rows += len;
        end += 1;
    }
    if end > start {
        runs.push(start..end);
    }
    runs
}

/// Where what is summed first stands in a list about sequences with as many values as `lens` say: those of
/// each sequence, or in the only lane all of the micro-batch.
pub(super) fn pieces(lane: Lane, lens: &[usize]) -> Vec<Range<usize>> {
    let (all, mut end) = (lens.iter().sum(), 0);
    let piece = |len: &usize| {
        end += len;
        end - len..end
    };
    lane.groups(lens, &all).iter().map(piece).collect()
}

/// Pieces of sums over a step's log-probabilities that are not read yet, in order.
#[derive(Default)]
pub(super) struct Untold {
    pieces: Vec<(Lane, usize)>,
}

impl Untold {
    /// Log-probabilities of a micro-batch of sequences of these lengths come next.
    pub(super) fn push(&mut self, lane: Lane, lens: &[usize]) {
        self.pieces.extend(pieces(lane, lens).into_iter().map(|piece| (lane, piece.len())));
    }

    /// The sums of what `share` makes of each piece, from the log-probabilities that come first; leaves the
    /// others. Those of all ranks are among them.
    pub(super) fn sum<const N: usize>(
        self,
        ranks: &Ranks,
        logprobs: &mut &[f64],
        mut share: impl FnMut(&[f64]) -> [f64; N],
    ) -> [f64; N] {
        let mut sums = LaneSums::default();
        for (lane, len) in self.pieces {
            let (piece, rest) = logprobs.split_at(len);
            *logprobs = rest;
            sums.add(lane, share(piece));
        }
        sums.total(ranks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_everything_and_are_as_long_as_may_be() {
        assert_eq!(passes([3000, 1000, 96, 1, 5000, 4096], 4096), [0..3, 3..4, 4..5, 5..6]);
        assert!(passes([], 4096).is_empty());
    }

    fn cut(lanes: Lanes, lens: &[usize], most: usize) -> Vec<(Lane, Range<usize>)> {
        let cut = lanes.cut(lens.iter().copied(), most).into_iter();
        cut.map(|micro_batch| (micro_batch.lane, micro_batch.examples)).collect()
    }

    #[test]
    fn no_micro_batch_crosses_a_lane() {
        use Lane::{Number, Only};
        let lens = [10; 7];
        assert_eq!(cut(Lanes::new(1), &lens, 30), [(Only, 0..3), (Only, 3..6), (Only, 6..7)]);
        assert_eq!(cut(Lanes::new(1).besides(), &lens, 100), [(Only, 0..7)]);
        let halves = [(Number(0), 0..3), (Number(1), 3..6), (Number(1), 6..7)];
        assert_eq!(cut(Lanes::new(2), &lens, 30), halves);
        let besides = [(Number(2), 0..3), (Number(3), 3..7)];
        assert_eq!(cut(Lanes::new(2).besides(), &lens, 100), besides);
    }

    #[test]
    fn lanes_differ_by_one_example_at_most_and_may_be_empty() {
        for n in 0..20 {
            for lanes in [1, 2, 4, 8] {
                let cut = cut(Lanes::new(lanes), &vec![5; n], usize::MAX);
                let places: Vec<usize> = cut.iter().flat_map(|(_, run)| run.clone()).collect();
                assert_eq!(places, (0..n).collect::<Vec<_>>());
                let fewest = n / lanes;
                assert!(cut.iter().all(|(_, run)| (fewest..=fewest + 1).contains(&run.len())), "{cut:?}");
                assert_eq!(cut.len(), lanes.min(n), "one for each that has any");
            }
        }
    }

    #[test]
    fn ranks_have_lanes_of_their_own_in_order() {
        for size in [1, 2, 4, 8] {
            let cuts = ranks::threads(size, |ranks| cut(Lanes::new(8).of(&ranks), &[10; 21], 20));
            assert_eq!(cuts.concat(), cut(Lanes::new(8), &[10; 21], 20), "{size} ranks");
            assert!(cuts.iter().all(|cut| !cut.is_empty()));
        }
        let refused = |size, lanes| {
            ranks::threads(size, |ranks| check(lanes, &ranks).map_err(|error| error.to_string())).remove(0)
        };
        assert_eq!(
            (refused(1, 1), refused(1, 8), refused(4, 8), refused(8, 8)),
            (Ok(()), Ok(()), Ok(()), Ok(()))
        );
        assert!(refused(2, 1).unwrap_err().contains("in one lane"));
        assert!(refused(3, 8).unwrap_err().contains("3 processes cannot share 8 lanes"));
        assert!(refused(16, 8).unwrap_err().contains("a power of two that is at most 8"));
    }

    #[test]
    fn sums_follow_the_sequences_but_in_the_only_lane() {
        let whole = pieces(Lane::Only, &[2, 3]);
        assert_eq!((whole.len(), whole.first()), (1, Some(&(0..5))));
        assert_eq!(pieces(Lane::Number(1), &[2, 3]), [0..2, 2..5]);
        let mut untold = Untold::default();
        untold.push(Lane::Number(0), &[1, 2]);
        untold.push(Lane::Number(1), &[1]);
        let (mut logprobs, mut shares) = (&[1.0, 2.0, 4.0, 8.0, 16.0][..], Vec::new());
        let sums = untold.sum(&Ranks::alone(), &mut logprobs, |piece| {
            shares.push(piece.to_vec());
            [piece.iter().sum(), 1.0]
        });
        assert_eq!((sums, logprobs), ([15.0, 3.0], &[16.0][..]));
        assert_eq!(shares, [vec![1.0], vec![2.0, 4.0], vec![8.0]]);
    }
}
