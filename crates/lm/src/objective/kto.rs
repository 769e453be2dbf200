//! Learning from answers that are called good or bad one by one: Kahneman–Tversky optimisation (Ethayarajh et al. 2024)
//! and APO-zero for such answers, by the names that TRL gives them.

use super::ranking::sigmoid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is learned of an answer whose `log π − log π_ref` is `u`; `z` is the point from which gains and losses are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnpairedLoss {
    /// KTO: `λ_D (1 − σ(β(u − z)))` of a good answer, `λ_U (1 − σ(β(z − u)))` of a bad one, with `z` by [`reference_point`]
    /// (Ethayarajh et al. 2024, eq. 8).
    #[default]
    Kto,
    /// APO-zero: the same with `z = 0`: good answers are raised, bad ones lowered (D'Oosterlinck et al. 2024).
    ApoZeroUnpaired,
}

/// A loss with its coefficients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unpaired {
    /// Which.
    pub loss: UnpairedLoss,
    /// β, how soon gains and losses saturate.
    pub beta: f64,
    /// λ_D, the weight of good answers.
    pub desirable_weight: f64,
    /// λ_U, the weight of bad answers.
    pub undesirable_weight: f64,
}

impl UnpairedLoss {
    /// All of them.
    pub const ALL: [UnpairedLoss; 2] = [UnpairedLoss::Kto, UnpairedLoss::ApoZeroUnpaired];

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            UnpairedLoss::Kto => "kto",
            UnpairedLoss::ApoZeroUnpaired => "apo_zero_unpaired",
        }
    }

    /// Whether gains and losses are counted from a point that is measured.
    pub fn has_reference_point(self) -> bool {
        self == UnpairedLoss::Kto
    }
}

impl fmt::Display for UnpairedLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Unpaired {
    /// The loss of one answer, and its derivative by the policy's log-probability of it; `z` has none. What is not
    /// finite is beyond what the model can compute: the loss is NaN then.
    pub fn loss(&self, ratio: f64, is_good: bool, z: f64) -> (f64, f64) {
        let (weight, sign) =
            if is_good { (self.desirable_weight, 1.0) } else { (self.undesirable_weight, -1.0) };
        let gain = sign * self.beta * (if ratio.is_finite() { ratio } else { f64::NAN } - z);
        let (value, slope) = (sigmoid(-gain), -sigmoid(gain) * sigmoid(-gain));
        (weight * value, weight * slope * sign * self.beta)
    }

    /// What the loss makes of an answer: β times its `log π − log π_ref`.
    pub fn reward(&self, ratio: f64) -> f64 {
        self.beta * ratio
    }

    /// How much good answers weigh beside bad ones: `λ_D n_D / (λ_U n_U)`. Its authors want it from 1 to 4/3
    /// ([`BALANCED`]); infinite without bad ones.
    pub fn balance(&self, good: usize, bad: usize) -> f64 {
        self.desirable_weight * good as f64 / (self.undesirable_weight * bad as f64)
    }
}

/// From where to where the [`balance`](Unpaired::balance) of good and bad answers is to be (Ethayarajh et al. 2024, eq. 9).
pub const BALANCED: std::ops::RangeInclusive<f64> = 1.0..=4.0 / 3.0;

/// `z`: an estimate of the policy's KL divergence from the reference, which is the mean of `log π − log π_ref` over
/// answers beside prompts of others, and not below 0. NaN where one of them is not finite; 0 without any.
pub fn reference_point(mismatched: &[f64]) -> f64 {
    let mean = mismatched.iter().sum::<f64>() / mismatched.len().max(1) as f64;
    // Written so that NaN stays.
    if mean <= 0.0 {
        0.0
    } else if mean.is_finite() {
        mean
    } else {
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(loss: UnpairedLoss) -> Unpaired {
        Unpaired { loss, beta: 0.7, desirable_weight: 1.2, undesirable_weight: 0.9 }
    }

    #[test]
    fn derivatives_are_those_of_the_loss() {
        let loss = of(UnpairedLoss::Kto);
        for (ratio, is_good, z) in
            [(0.4, true, 0.3), (-2.0, true, 0.0), (1.5, false, 0.2), (-0.7, false, 0.1)]
        {
            let by = |h: f64| loss.loss(ratio + h, is_good, z).0;
            let wanted = (by(1e-6) - by(-1e-6)) / 2e-6;
            let (_, found) = loss.loss(ratio, is_good, z);
            assert!((found - wanted).abs() < 1e-9, "{ratio} {is_good}: {found} {wanted}");
        }
    }

    #[test]
    fn what_the_model_cannot_compute_has_no_loss() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(of(UnpairedLoss::Kto).loss(bad, true, 0.0).0.is_nan(), "{bad}");
        }
        assert!(reference_point(&[1.0, f64::NAN]).is_nan());
        assert!(reference_point(&[1.0, f64::INFINITY]).is_nan());
        assert!(of(UnpairedLoss::Kto).loss(0.5, false, f64::NAN).0.is_nan());
    }

    #[test]
    fn the_reference_point_is_a_mean_that_is_not_negative() {
        assert_eq!(reference_point(&[0.5, -0.25, 0.5, 0.25]), 0.25);
        assert_eq!(reference_point(&[0.5, -1.0]), 0.0);
        assert_eq!(reference_point(&[]), 0.0);
    }

    #[test]
    fn good_answers_weigh_as_much_as_bad_ones_or_a_little_more() {
        let balance = |good, bad| of(UnpairedLoss::Kto).balance(good, bad);
        assert!((balance(30, 40) - 1.0).abs() < 1e-12 && BALANCED.contains(&balance(39, 40)));
        assert!(!BALANCED.contains(&balance(29, 40)) && !BALANCED.contains(&balance(41, 40)));
        assert!(!BALANCED.contains(&balance(3, 0)) && !BALANCED.contains(&balance(0, 3)));
    }

    #[test]
    fn names_are_those_of_recipes() {
        for loss in UnpairedLoss::ALL {
            assert_eq!(serde_json::to_value(loss).unwrap(), loss.name());
        }
    }
}
