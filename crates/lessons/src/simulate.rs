//! Rankings by a judge that errs as people do.
//!
//! Of two answers with scores `s` and `t`, the first is preferred with probability `σ((s − t) / noise)`
//! (Bradley & Terry 1952). A whole ranking with these odds for each of its pairs comes from sorting `score /
//! noise + g`, with `g` from the standard Gumbel distribution (Luce 1959; Yellott 1977). Answers that a judge
//! finds equally good are ties: they share a rank.

use kernels::rng;
use serde::Serialize;
use serde_json::json;

use ::text::data::{Candidates, Ranking};
use ::text::streams;

/// Scores closer than this are a tie: what a reader would not tell apart.
pub const TIE_MARGIN: f64 = 0.02;

/// The `noise` of rankings if nothing else is asked for.
pub const DEFAULT_NOISE: f64 = 0.04;

/// Ranks answers with these scores, 1 for the best; ties share a rank and the next rank follows without a
/// gap. `noise` is the difference of scores at which the better answer wins with probability `σ(1) = 0.73`; 0
/// ranks by the scores alone. A function of the seed and the number of the prompt.
pub fn rank(scores: &[f64], noise: f64, seed: u64, prompt: u64) -> Vec<u32> {
    let mut groups = tied(scores);
    let worth = |number: usize, group: &[usize]| {
        let score = mean(scores, group);
        if noise > 0.0 { score / noise + gumbel(seed, prompt, number as u64) } else { score }
    };
    let mut order: Vec<(f64, Vec<usize>)> =
        groups.drain(..).enumerate().map(|(number, group)| (worth(number, &group), group)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut ranks = vec![0; scores.len()];
    for (rank, (_, group)) in (1..).zip(&order) {
        group.iter().for_each(|&i| ranks[i] = rank);
    }
    ranks
}

/// Answers in groups of equals, best first: each group is everything within [`TIE_MARGIN`] of its best.
fn tied(scores: &[f64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match groups.last_mut() {
            Some(group) if scores[group[0]] - scores[i] < TIE_MARGIN => group.push(i),
            _ => groups.push(vec![i]),
        }
    }
    groups
}

fn mean(scores: &[f64], group: &[usize]) -> f64 {
    group.iter().map(|&i| scores[i]).sum::<f64>() / group.len() as f64
}

fn gumbel(seed: u64, prompt: u64, number: u64) -> f64 {
    let uniform =
        ((rng::bits(seed, streams::JUDGE_NOISE.at(prompt), number) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -(-uniform.ln()).ln()
}

/// What came of [`simulate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Simulated {
    /// Rankings made.
    pub rankings: u64,
    /// Answers ranked.
    pub answers: u64,
    /// Their mean score.
    pub mean_score: f64,
    /// What a reward model can learn of it at best.
    pub ceiling: Ceiling,
}

/// Ranks candidates, each with the scores of its answers ([`Judge::scores`](super::Judge::scores)), as a
/// judge with `noise` would; the scores stay in a further field of each ranking, `scores`.
pub fn simulate(scored: Vec<(Candidates, Vec<f64>)>, noise: f64, seed: u64) -> (Vec<Ranking>, Simulated) {
    let (mut rankings, mut simulated) = (Vec::with_capacity(scored.len()), Simulated::default());
    for (prompt, (Candidates { messages, completions, mut extra }, scores)) in (0..).zip(scored) {
        let ranks = rank(&scores, noise, seed, prompt);
        simulated.ceiling.count(&scores, &ranks, noise);
        simulated.answers += scores.len() as u64;
        simulated.mean_score += scores.iter().sum::<f64>();
        extra.insert("scores".into(), json!(scores));
        rankings.push(Ranking { messages, completions, ranks, extra });
    }
    simulated.rankings = rankings.len() as u64;
    simulated.mean_score /= simulated.answers.max(1) as f64;
    (rankings, simulated)
}

/// How well the best possible reward model can do on noisy rankings: one that orders every pair as the
/// judge's scores do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ceiling {
    /// Pairs of answers with different ranks.
    pub pairs: u64,
    /// Pairs of answers that are ties.
    pub ties: u64,
    /// Pairs in which the better answer has the better rank.
    pub agreeing: u64,
    /// How many that would be on average: the sum of `σ(|s − t| / noise)` over the pairs.
    pub expected: f64,
}

impl Ceiling {
    /// Counts the pairs of one ranking that [`rank`] made of these scores.
    pub fn count(&mut self, scores: &[f64], ranks: &[u32], noise: f64) {
        let mut score = vec![0.0; scores.len()];
        for group in tied(scores) {
            let mean = mean(scores, &group);
            group.iter().for_each(|&i| score[i] = mean);
        }
        for (i, j) in (0..scores.len()).flat_map(|i| (0..i).map(move |j| (i, j))) {
            if ranks[i] == ranks[j] {
                self.ties += 1;
                continue;
            }
            self.pairs += 1;
            self.agreeing += u64::from((score[i] > score[j]) == (ranks[i] < ranks[j]));
            let gap = (score[i] - score[j]).abs();
            self.expected += if noise > 0.0 { 1.0 / (1.0 + (-gap / noise).exp()) } else { 1.0 };
        }
    }

    /// The share of pairs that a perfect reward model gets right; none without pairs.
    pub fn accuracy(&self) -> Option<f64> {
        (self.pairs > 0).then(|| self.agreeing as f64 / self.pairs as f64)
    }
}
