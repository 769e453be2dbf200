//! How good a reward model is on rankings that it has not seen.

use super::Rewarding;
use crate::eval::Rate;
use crate::objective::ranking_loss;
use crate::stage::training_loop::Cancel;
use anyhow::Result;
use kernels::Backend;
use serde::Serialize;
use std::collections::BTreeMap;
use text::statistics::pearson;

/// Pairs that the model was about as sure of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Mean probability that the model gave the answer it prefers.
    pub confidence: f64,
    /// How often it was right.
    pub accuracy: f64,
    /// Pairs.
    pub n: u64,
}

/// Figures of a reward model on held-out rankings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RewardReport {
    /// Mean loss of a prompt.
    pub loss: f64,
    /// Rate of the pairs whose better answer has the higher score. Pairs of one prompt count each.
    pub pair_accuracy: Rate,
    /// The same by the difference of the ranks.
    pub by_gap: BTreeMap<u32, Rate>,
    /// The same by the number of answers to a prompt.
    pub by_k: BTreeMap<usize, Rate>,
    /// How sure it is and how right.
    pub calibration: Vec<Bin>,
    /// Correlation of scores with the number of tokens of the answer (Pearson).
    pub length_correlation: f64,
}

/// Right and all pairs.
#[derive(Clone, Copy, Default)]
struct Count {
    right: u64,
    n: u64,
}

impl Count {
    fn add(&mut self, is_right: bool) {
        self.right += u64::from(is_right);
        self.n += 1;
    }

    fn rate(self) -> Rate {
        Rate::wilson(self.right, self.n)
    }
}

/// Confidence from ½ to 1 in this many bins.
const BINS: usize = 5;

impl<B: Backend> Rewarding<'_, B> {
    /// Measures the model as it is.
    pub(super) fn measure(&mut self, cancel: Cancel<'_>) -> Result<RewardReport> {
        let held_out = &self.options.rankings.sides.held_out;
        let scores = self.scores(held_out.iter().flat_map(|ranked| &ranked.episodes), cancel)?;
        let (mut all, mut by_gap, mut by_k) = (Count::default(), BTreeMap::new(), BTreeMap::new());
        let mut bins = [(0.0, Count::default()); BINS];
        let (mut loss, mut prompts, mut first) = (0.0, 0, 0);
        for ranked in held_out {
            let rewards = &scores[first..first + ranked.episodes.len()];
            first += ranked.episodes.len();
            if ranked.pairs.is_empty() {
                continue;
            }
            loss += ranking_loss(rewards, &ranked.pairs, self.settings.own.terms(ranked)).value;
            prompts += 1;
            for &(better, worse) in &ranked.pairs {
                let difference = rewards[better] - rewards[worse];
                let is_right = difference > 0.0;
                all.add(is_right);
                by_gap
                    .entry(ranked.ranks[worse] - ranked.ranks[better])
                    .or_insert(Count::default())
                    .add(is_right);
                by_k.entry(rewards.len()).or_insert(Count::default()).add(is_right);
                let confidence = 1.0 / (1.0 + (-difference.abs()).exp());
                let bin = (((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
                bins[bin].0 += confidence;
                bins[bin].1.add(is_right);
            }
        }
        let lens =
            held_out.iter().flat_map(|ranked| &ranked.episodes).map(|episode| episode.answer_len() as f64);
        let calibration = bins.into_iter().filter(|(_, count)| count.n > 0).map(|(sum, count)| Bin {
            confidence: sum / count.n as f64,
            accuracy: count.right as f64 / count.n as f64,
            n: count.n,
        });
        Ok(RewardReport {
            loss: loss / f64::from(prompts.max(1)),
            pair_accuracy: all.rate(),
            by_gap: by_gap.into_iter().map(|(gap, count)| (gap, count.rate())).collect(),
            by_k: by_k.into_iter().map(|(k, count)| (k, count.rate())).collect(),
            calibration: calibration.collect(),
            length_correlation: pearson(&scores, &lens.collect::<Vec<f64>>()),
        })
    }
}
