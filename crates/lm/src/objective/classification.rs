//! Classification: the mean negative log-likelihood of the right class, a softmax over scores (Radford et al.
//! 2018, eq. 3–4); and regression, where a score is the answer itself.

/// The loss of one example.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassLoss {
    /// `-log p(right)`, or the squared error.
    pub value: f64,
    /// By each score.
    pub derivatives: Vec<f64>,
}

/// `pᵢ = e^(scoreᵢ) / Σⱼ e^(scoreⱼ)`.
pub fn probabilities(scores: &[f64]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// `-log p(right)` with derivatives `pᵢ - [i = right]`; NaN where a score is not finite.
pub fn class_loss(scores: &[f64], right: usize) -> ClassLoss {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = highest + scores.iter().map(|score| (score - highest).exp()).sum::<f64>().ln();
    let mut derivatives = probabilities(scores);
    derivatives[right] -= 1.0;
    let value = if scores.iter().all(|score| score.is_finite()) { log_sum - scores[right] } else { f64::NAN };
    ClassLoss { value, derivatives }
}

/// `(score - wanted)²` with its derivative.
pub fn squared_error(score: f64, wanted: f64) -> ClassLoss {
    let error = score - wanted;
    ClassLoss { value: error * error, derivatives: vec![2.0 * error] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_differences(loss: impl Fn(&[f64]) -> ClassLoss, scores: &[f64]) {
        for (at, derivative) in loss(scores).derivatives.into_iter().enumerate() {
            let moved = |by: f64| {
                let mut scores = scores.to_vec();
                scores[at] += by;
                loss(&scores).value
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((numeric - derivative).abs() < 1e-8, "{at}: {numeric}, {derivative}");
        }
    }

    #[test]
    fn derivatives_are_those_of_the_values() {
        by_differences(|scores| class_loss(scores, 2), &[0.5, -1.0, 2.0, 0.0]);
        by_differences(|scores| squared_error(scores[0], 3.5), &[1.25]);
    }

    #[test]
    fn a_score_that_is_not_finite_has_no_loss() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(class_loss(&[bad, 1.0], 0).value.is_nan() && class_loss(&[bad, 1.0], 1).value.is_nan());
        }
    }

    #[test]
    fn scores_of_any_size_are_weighed() {
        assert_eq!(class_loss(&[1e4, -1e4], 1).value, 2e4);
        assert_eq!(probabilities(&[-1e9, -1e9]), [0.5, 0.5]);
    }
}
