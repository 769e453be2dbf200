//! Language modelling: the mean negative log-likelihood of the targets, in nats.
//!
//! The loss is linear in the log-probabilities, so its derivatives are known before them: the head's backward
//! pass needs no separate forward pass.

use kernels::NO_TARGET;

/// `-Σ logprobs / counted`: this micro-batch's share of a loss that is a mean over `counted` targets.
/// 0 when nothing is counted.
pub fn cross_entropy(logprobs: &[f64], counted: usize) -> f64 {
    if counted == 0 { 0.0 } else { -logprobs.iter().sum::<f64>() / counted as f64 }
}

/// The derivative of [`cross_entropy`] by each log-probability: `-1 / counted`, 0 where there is no target.
pub fn cross_entropy_derivatives(derivatives: &mut Vec<f64>, targets: &[u32], counted: usize) {
    let each = if counted == 0 { 0.0 } else { -1.0 / counted as f64 };
    derivatives.clear();
    derivatives.extend(targets.iter().map(|&target| if target == NO_TARGET { 0.0 } else { each }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_value() {
        let (targets, logprobs) = ([3, NO_TARGET, 5], [-1.0, 0.0, -2.5]);
        let mut derivatives = Vec::new();
        cross_entropy_derivatives(&mut derivatives, &targets, 2);
        assert_eq!(derivatives, [-0.5, 0.0, -0.5]);
        assert_eq!(cross_entropy(&logprobs, 2), 1.75);
        let moved = [-1.0 + 1e-3, 0.0, -2.5];
        let difference = (cross_entropy(&moved, 2) - 1.75) / 1e-3;
        assert!((difference - derivatives[0]).abs() < 1e-9);
    }

    #[test]
    fn a_batch_without_targets_contributes_nothing() {
        let mut derivatives = Vec::new();
        cross_entropy_derivatives(&mut derivatives, &[NO_TARGET; 2], 0);
        assert_eq!(derivatives, [0.0, 0.0]);
        assert_eq!(cross_entropy(&[0.0, 0.0], 0), 0.0);
    }
}
