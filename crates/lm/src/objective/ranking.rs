//! Learning from rankings: a reward model prefers the better answer of every pair (Ouyang et al. 2022, eq.
//! 1).

/// The loss of one prompt's answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankingLoss {
    /// `-Σ log σ(r_better - r_worse) / pairs`.
    pub value: f64,
    /// By each answer's reward.
    pub derivatives: Vec<f64>,
    /// Pairs that the rewards order rightly.
    pub right: usize,
}

/// The mean over the `pairs` (better, worse) of one prompt, all of them one element of a batch: the answers
/// are passed through the model once each, and pairs of one prompt, which are correlated, do not become
/// several steps. Without pairs it is 0. A reward that is infinite is beyond what the model can compute: the
/// loss is NaN then, and not 0 because the better answer has it.
pub fn ranking_loss(rewards: &[f64], pairs: &[(usize, usize)]) -> RankingLoss {
    let mut loss = RankingLoss { derivatives: vec![0.0; rewards.len()], ..RankingLoss::default() };
    let each = 1.0 / pairs.len().max(1) as f64;
    for &(better, worse) in pairs {
        let [better_reward, worse_reward] =
            [better, worse].map(|i| if rewards[i].is_finite() { rewards[i] } else { f64::NAN });
        let difference = better_reward - worse_reward;
        loss.value -= each * log_sigmoid(difference);
        let derivative = -each * sigmoid(-difference);
        loss.derivatives[better] += derivative;
        loss.derivatives[worse] -= derivative;
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
                let loss = ranking_loss(&rewards, &[(0, 1)]);
                assert!(loss.value.is_nan() && loss.right == 0, "{rewards:?}: {loss:?}");
            }
        }
        assert!(ranking_loss(&[1e300, -1e300], &[(0, 1)]).value == 0.0);
    }
}
