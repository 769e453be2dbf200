//! What ratings say of raters and of models, and how sure that is.

mod agreement;
mod alpha;
mod bradley_terry;
mod report;
mod win_rate;

pub use agreement::{Agreement, agreement};
pub use alpha::ordinal_alpha;
pub use bradley_terry::{Fit, Game, NoFit, fit, intervals};
pub(crate) use report::{Item, Rated, Said};
pub use report::{ModelLine, RaterLine, Report, Votes};
pub use win_rate::WinRate;

use crate::order::Chance;

/// How far reward models are apart on an item: over all pairs of its answers the mean variance, from model to
/// model, of the probability that the one is better than the other, σ(r − r'). `rewards` has a row for each
/// model and a column for each answer.
pub fn disagreement(rewards: &[Vec<f64>]) -> f64 {
    let answers = rewards.first().map_or(0, Vec::len);
    let pairs: Vec<(usize, usize)> = (0..answers).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
    let variance = |&(i, j): &(usize, usize)| {
        let p: Vec<f64> = rewards.iter().map(|r| 1.0 / (1.0 + (r[j] - r[i]).exp())).collect();
        let mean = p.iter().sum::<f64>() / p.len() as f64;
        p.iter().map(|p| (p - mean) * (p - mean)).sum::<f64>() / p.len() as f64
    };
    pairs.iter().map(variance).sum::<f64>() / pairs.len().max(1) as f64
}

/// How far a reward model disagrees with a ranking: the mean over its pairs of −ln σ(r − r'), what it would lose by believing
/// the person (Ouyang et al. 2022, equation 1). None where the model says the same, or the ranking has no pair.
pub fn contradiction(ranks: &[u32], rewards: &[f64]) -> Option<f64> {
    let pairs = ranks.iter().zip(rewards).enumerate().flat_map(|(i, (rank, reward))| {
        let others = ranks[..i].iter().zip(rewards);
        others.filter(move |(other, _)| *other != rank).map(move |(other, theirs)| {
            // The lead of the one that the person prefers.
            if rank < other { reward - theirs } else { theirs - reward }
        })
    });
    let leads: Vec<f64> = pairs.collect();
    let mean = |of: &dyn Fn(f64) -> f64| leads.iter().map(|lead| of(*lead)).sum::<f64>() / leads.len() as f64;
    let is_other = !leads.is_empty() && mean(&|lead| lead) < 0.0;
    is_other.then(|| mean(&|lead| (-lead).exp().ln_1p()))
}

/// Values between which 95 of 100 resamples lie.
fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

/// What resampling draws from: the same numbers each time, so that a report says the same twice.
fn resampling() -> Chance {
    Chance::new(&[0; 32], "resampling")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_the_other_way_round_contradicts_most() {
        let rewards = [2.0, 0.5, -1.0];
        assert_eq!(contradiction(&[1, 2, 3], &rewards), None);
        assert_eq!(contradiction(&[1, 1, 1], &rewards), None, "no pair");
        assert_eq!(contradiction(&[1, 3, 2], &rewards), None, "one pair of three");
        let [turned, half] = [[3, 2, 1], [2, 2, 1]].map(|ranks| contradiction(&ranks, &rewards).unwrap());
        let loss = |lead: f64| (1.0 + (-lead).exp()).ln();
        assert!((turned - (loss(-1.5) + loss(-3.0) + loss(-1.5)) / 3.0).abs() < 1e-12);
        assert!((half - (loss(-3.0) + loss(-1.5)) / 2.0).abs() < 1e-12);
        assert!(contradiction(&[2, 1], &[9.0, 0.0]) > contradiction(&[2, 1], &[1.0, 0.0]));
    }

    #[test]
    fn reward_models_that_agree_are_not_apart() {
        assert_eq!(disagreement(&[vec![0.5, 1.0, -2.0], vec![1.5, 2.0, -1.0]]), 0.0);
        let apart = disagreement(&[vec![9.0, 0.0], vec![0.0, 9.0]]);
        assert!((apart - 0.25).abs() < 1e-3, "{apart}");
        assert!(disagreement(&[vec![0.1, 0.0], vec![0.0, 0.1]]) < apart);
    }
}
