//! Learning from rankings: a reward model prefers the better answer of every pair (Ouyang et al. 2022, eq.
//! 1).

/// The loss of one prompt's answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankingLoss {
    /// The mean over its pairs.
    pub value: f64,
    /// By each answer's reward.
    pub derivatives: Vec<f64>,
    /// Pairs that the rewards order rightly.
    pub right: usize,
}

/// What is added to the loss of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairTerms {
    /// By how much the better reward is to be ahead (Touvron et al. 2023, eq. 2).
    pub margin: f64,
    /// The weight of the square of the sum of both rewards, which keeps them around 0 (Eisenstein et al. 2023, §3).
    pub centre: f64,
}

/// The mean over the `pairs` (better, worse) of one prompt of `-log σ(r_better - r_worse - margin) + centre · (r_better +
/// r_worse)²`. All of them are one element of a batch: the answers are passed through the model once each, and pairs of one
/// prompt, which are correlated, do not become several steps. Without pairs it is 0. A reward that is infinite is beyond
/// what the model can compute: the loss is NaN then, and not 0 because the better answer has it.
pub fn ranking_loss(rewards: &[f64], pairs: &[(usize, usize)], terms: PairTerms) -> RankingLoss {
    let mut loss = RankingLoss { derivatives: vec![0.0; rewards.len()], ..RankingLoss::default() };
    let each = 1.0 / pairs.len().max(1) as f64;
    for &(better, worse) in pairs {
        let [better_reward, worse_reward] =
            [better, worse].map(|i| if rewards[i].is_finite() { rewards[i] } else { f64::NAN });
        let (difference, sum) = (better_reward - worse_reward, better_reward + worse_reward);
        loss.value += each * (terms.centre * sum * sum - log_sigmoid(difference - terms.margin));
        let derivative = -each * sigmoid(terms.margin - difference);
        let centring = 2.0 * each * terms.centre * sum;
        loss.derivatives[better] += centring + derivative;
        loss.derivatives[worse] += centring - derivative;
        loss.right += usize::from(difference > 0.0);
    }
    loss
}

/// `1 / (1 + e⁻ˣ)`.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `log σ(x)`, exact where σ underflows.
pub(super) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reward_that_is_not_finite_has_no_loss() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for rewards in [[bad, 0.0], [0.0, bad], [bad, bad]] {
                let loss = ranking_loss(&rewards, &[(0, 1)], PairTerms::default());
                assert!(loss.value.is_nan() && loss.right == 0, "{rewards:?}: {loss:?}");
            }
        }
        assert!(ranking_loss(&[1e300, -1e300], &[(0, 1)], PairTerms::default()).value == 0.0);
    }
}
