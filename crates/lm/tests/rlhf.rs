//! The arithmetic of rankings, DPO and PPO against NumPy and PyTorch (`tools/golden_rlhf.py`), and every
//! derivative against differences.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use lm::objective::ppo::{KlController, gae, policy_loss, token_rewards, value_loss, whiten};
use lm::objective::{dpo_loss, ranking_loss};
use serde_json::Value;

struct Golden(Value);

impl Golden {
    fn read() -> Self {
        Golden(serde_json::from_str(include_str!("golden/rlhf.json")).unwrap())
    }
    fn numbers(&self, name: &str) -> Vec<f64> {
        serde_json::from_value(self.0[name].clone()).unwrap()
    }
    fn lens(&self) -> Vec<usize> {
        serde_json::from_value(self.0["lens"].clone()).unwrap()
    }
    fn pairs(&self) -> Vec<(usize, usize)> {
        serde_json::from_value(self.0["pairs"].clone()).unwrap()
    }
    /// A loss and its gradient.
    fn differentiated(&self, name: &str) -> (f64, Vec<f64>) {
        let (value, [gradient]): (f64, [Vec<f64>; 1]) = serde_json::from_value(self.0[name].clone()).unwrap();
        (value, gradient)
    }
}

fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < 1e-9, "{what}[{i}]: {got}, expected {want}");
    }
}

#[test]
fn rewards_advantages_and_returns() {
    let golden = Golden::read();
    let (lens, values) = (golden.lens(), golden.numbers("values"));
    let mut rewards =
        token_rewards(&golden.numbers("old"), &golden.numbers("ref"), &golden.numbers("scores"), &lens, 0.07);
    close(&rewards, &golden.numbers("rewards"), "rewards");
    let (mut advantages, returns) = gae(&rewards, &values, &lens, 0.97, 0.9);
    close(&advantages, &golden.numbers("advantages"), "advantages");
    close(&returns, &golden.numbers("returns"), "returns");
    whiten(&mut advantages, true);
    close(&advantages, &golden.numbers("whitened"), "whitened");
    whiten(&mut rewards, false);
    close(&rewards, &golden.numbers("whitened_rewards"), "whitened rewards");
}

#[test]
fn losses_of_policy_and_values() {
    let golden = Golden::read();
    let (new, old, advantages) = (golden.numbers("new"), golden.numbers("old"), golden.numbers("whitened"));
    let (value, gradient) = golden.differentiated("policy");
    let whole = policy_loss(&new, &old, &advantages, 0.2, new.len());
    close(&[whole.value], &[value], "policy");
    close(&whole.derivatives, &gradient, "the policy's derivatives");
    assert!(whole.clip_fraction > 0.0 && whole.clip_fraction < 1.0, "some tokens are clipped, not all");

    let [a, b] = [0..4, 4..new.len()]
        .map(|part| policy_loss(&new[part.clone()], &old[part.clone()], &advantages[part], 0.2, new.len()));
    let parts = [a.value + b.value, a.approx_kl + b.approx_kl];
    close(&parts, &[whole.value, whole.approx_kl], "in parts");

    let (value, gradient) = golden.differentiated("value");
    let values = value_loss(
        &golden.numbers("new_values"),
        &golden.numbers("values"),
        &golden.numbers("returns"),
        0.2,
        new.len(),
    );
    close(&[values.value], &[value], "value");
    close(&values.derivatives, &gradient, "the values' derivatives");
    assert!(values.clip_fraction > 0.0 && values.clip_fraction < 1.0);
}

#[test]
fn losses_of_rankings() {
    let golden = Golden::read();
    let (value, gradient) = golden.differentiated("ranking");
    let ranking = ranking_loss(&golden.numbers("answers"), &golden.pairs());
    close(&[ranking.value], &[value], "ranking");
    close(&ranking.derivatives, &gradient, "the ranking's derivatives");

    let (value, gradient) = golden.differentiated("dpo");
    let dpo = dpo_loss(&golden.numbers("policy_sums"), &golden.numbers("ref_sums"), &golden.pairs(), 0.1);
    close(&[dpo.value], &[value], "dpo");
    close(&dpo.derivatives, &gradient, "DPO's derivatives");
}

#[test]
fn an_adaptive_price_follows_the_distance() {
    let golden = Golden::read();
    let mut adaptive = KlController::new(0.15, Some(6.0), 10_000.0);
    for (kl, want) in golden.numbers("kl").into_iter().zip(&golden.numbers("coefficients")[1..]) {
        adaptive.update(kl, 512);
        close(&[adaptive.coefficient()], &[*want], "price");
    }
    let mut fixed = KlController::new(0.15, None, 10_000.0);
    fixed.update(100.0, 512);
    assert_eq!(fixed.coefficient(), 0.15);
    adaptive.update(f64::NAN, 512);
    assert!(adaptive.coefficient().is_finite(), "what is no number teaches nothing");
}

/// Holds derivatives against differences of the value.
fn differences(at: &[f64], loss: impl Fn(&[f64]) -> (f64, Vec<f64>)) {
    const STEP: f64 = 1e-6;
    let (_, derivatives) = loss(at);
    for i in 0..at.len() {
        let moved = |by: f64| {
            let mut moved = at.to_vec();
            moved[i] += by;
            loss(&moved).0
        };
        let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        assert!((numeric - derivatives[i]).abs() < 1e-7, "{i}: {}, by differences {numeric}", derivatives[i]);
    }
}

#[test]
fn derivatives_are_those_of_the_values() {
    let golden = Golden::read();
    let (old, advantages) = (golden.numbers("old"), golden.numbers("whitened"));
    differences(&golden.numbers("new"), |new| {
        let loss = policy_loss(new, &old, &advantages, 0.2, 11);
        (loss.value, loss.derivatives)
    });
    let (values, returns) = (golden.numbers("values"), golden.numbers("returns"));
    differences(&golden.numbers("new_values"), |new| {
        let loss = value_loss(new, &values, &returns, 0.2, 11);
        (loss.value, loss.derivatives)
    });
    let pairs = golden.pairs();
    differences(&golden.numbers("answers"), |rewards| {
        let loss = ranking_loss(rewards, &pairs);
        (loss.value, loss.derivatives)
    });
    let reference = golden.numbers("ref_sums");
    differences(&golden.numbers("policy_sums"), |policy| {
        let loss = dpo_loss(policy, &reference, &pairs, 0.3);
        (loss.value, loss.derivatives)
    });
}

#[test]
fn nothing_to_learn_from_is_nothing() {
    assert_eq!(ranking_loss(&[1.0, 2.0], &[]).value, 0.0);
    assert_eq!(ranking_loss(&[1.0, 2.0], &[]).derivatives, [0.0, 0.0]);
    assert_eq!(policy_loss(&[], &[], &[], 0.2, 0).value, 0.0);
    assert!(token_rewards(&[], &[], &[3.0], &[0], 0.1).is_empty(), "no token carries the score");
    assert!(gae(&[], &[], &[0, 0], 1.0, 0.95).0.is_empty());
    let mut one = [4.0];
    whiten(&mut one, true);
    assert_eq!(one, [0.0]);
    // Far apart, a logarithm of a sigmoid is still a number.
    let far = ranking_loss(&[-1e4, 1e4], &[(0, 1)]);
    assert_eq!((far.value, far.derivatives.as_slice()), (2e4, [-1.0, 1.0].as_slice()));
}

#[test]
fn at_the_old_policy_the_ratio_is_one() {
    let old = [-1.0, -2.0, -0.5];
    let loss = policy_loss(&old, &old, &[1.0, -2.0, 0.5], 0.2, 3);
    assert_eq!((loss.mean_ratio, loss.approx_kl, loss.clip_fraction), (1.0, 0.0, 0.0));
    close(&loss.derivatives, &[-1.0 / 3.0, 2.0 / 3.0, -0.5 / 3.0], "policy gradient");
}
