//! Direct preference optimisation (Rafailov et al. 2023): the policy itself is the reward model of its
//! rankings.

use super::ranking::{RankingLoss, ranking_loss};

/// The loss of one prompt's answers, from the sums of their log-probabilities under the policy and the
/// reference: the rewards of [`ranking_loss`] are `β · (log π - log π_ref)` (eq. 7). Derivatives are by the
/// policy's log-probabilities.
pub fn dpo_loss(policy: &[f64], reference: &[f64], pairs: &[(usize, usize)], beta: f64) -> RankingLoss {
    let mut loss = ranking_loss(&implicit_rewards(policy, reference, beta), pairs);
    loss.derivatives.iter_mut().for_each(|derivative| *derivative *= beta);
    loss
}

/// `β · (log π - log π_ref)` of each answer.
pub fn implicit_rewards(policy: &[f64], reference: &[f64], beta: f64) -> Vec<f64> {
    policy.iter().zip(reference).map(|(p, r)| beta * (p - r)).collect()
}
