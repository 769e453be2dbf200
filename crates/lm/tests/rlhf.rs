//! The arithmetic of rankings, DPO, KTO and PPO against NumPy and PyTorch (`tools/golden_rlhf.py`), and every
//! derivative against differences.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use lm::objective::ppo::{KlController, gae, policy_loss, token_rewards, value_loss, whiten};
use lm::objective::{
    AnswerLogprobs, PairTerms, Preference, PreferenceLoss, Unpaired, UnpairedLoss, ranking_loss,
    reference_point,
};
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

/// Two pairs under a loss: of each answer the log-probability under policy and reference, and its tokens.
#[derive(serde::Deserialize)]
struct Case {
    loss: PreferenceLoss,
    beta: f64,
    label_smoothing: f64,
    gamma: f64,
    answers: Vec<(f64, f64, usize)>,
    value: f64,
    gradient: Vec<f64>,
}

/// Single answers under a loss, good ones and bad ones.
#[derive(serde::Deserialize)]
struct OneByOne {
    loss: UnpairedLoss,
    beta: f64,
    weights: [f64; 2],
    mismatched: Vec<f64>,
    z: f64,
    log_ratios: Vec<f64>,
    good: Vec<bool>,
    value: f64,
    gradient: Vec<f64>,
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
    let ranking = ranking_loss(&golden.numbers("answers"), &golden.pairs(), PairTerms::default());
    close(&[ranking.value], &[value], "ranking");
    close(&ranking.derivatives, &gradient, "the ranking's derivatives");

    let (value, gradient) = golden.differentiated("ranking_with_terms");
    let terms = PairTerms { margin: 0.5, centre: 0.01 };
    let ranking = ranking_loss(&golden.numbers("answers"), &golden.pairs(), terms);
    close(&[ranking.value], &[value], "ranking with margin and centring");
    close(&ranking.derivatives, &gradient, "its derivatives");

    let (value, gradient) = golden.differentiated("dpo");
    let both = golden.numbers("policy_sums").into_iter().zip(golden.numbers("ref_sums"));
    let answers: Vec<_> =
        both.map(|(policy, reference)| AnswerLogprobs { policy, reference, tokens: 3 }).collect();
    let dpo = Preference { loss: PreferenceLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0, gamma: 0.0 };
    let dpo = dpo.loss(&answers, &golden.pairs());
    close(&[dpo.value], &[value], "dpo");
    close(&dpo.derivatives, &gradient, "DPO's derivatives");
}

/// As TRL words them, with torch's derivatives.
#[test]
fn losses_of_pairs() {
    let golden = Golden::read();
    let cases: Vec<Case> = serde_json::from_value(golden.0["preference"].clone()).unwrap();
    assert!(
        PreferenceLoss::ALL.iter().all(|loss| cases.iter().any(|case| case.loss == *loss)),
        "one is left out"
    );
    for Case { loss, beta, label_smoothing, gamma, answers, value, gradient } in cases {
        let preference = Preference { loss, beta, label_smoothing, gamma };
        let answers: Vec<_> = answers
            .into_iter()
            .map(|(policy, reference, tokens)| AnswerLogprobs { policy, reference, tokens })
            .collect();
        // Two prompts of two answers: TRL's mean over pairs.
        let [a, b] = [0..2, 2..4].map(|prompt| preference.loss(&answers[prompt], &[(0, 1)]));
        let what = format!("{loss} {label_smoothing}");
        close(&[(a.value + b.value) / 2.0], &[value], &what);
        let found: Vec<f64> = a.derivatives.iter().chain(&b.derivatives).map(|it| it / 2.0).collect();
        close(&found, &gradient, &what);
    }
}

/// As TRL words them, with torch's derivatives; `z` is of the mismatched answers.
#[test]
fn losses_of_single_answers() {
    let golden = Golden::read();
    let cases: Vec<OneByOne> = serde_json::from_value(golden.0["unpaired"].clone()).unwrap();
    assert!(UnpairedLoss::ALL.iter().all(|loss| cases.iter().any(|case| case.loss == *loss)));
    for case in cases {
        let OneByOne { loss, beta, weights: [desirable_weight, undesirable_weight], .. } = case;
        let unpaired = Unpaired { loss, beta, desirable_weight, undesirable_weight };
        let z = if loss.has_reference_point() { reference_point(&case.mismatched) } else { 0.0 };
        close(&[z], &[case.z], "z");
        let answers = case.log_ratios.iter().zip(&case.good);
        let each: Vec<_> = answers.map(|(ratio, good)| unpaired.loss(*ratio, *good, z)).collect();
        let n = each.len() as f64;
        close(&[each.iter().map(|one| one.0).sum::<f64>() / n], &[case.value], loss.name());
        close(&each.iter().map(|one| one.1 / n).collect::<Vec<_>>(), &case.gradient, loss.name());
    }
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
        let loss = ranking_loss(rewards, &pairs, PairTerms { margin: 0.3, centre: 0.2 });
        (loss.value, loss.derivatives)
    });
}

#[test]
fn nothing_to_learn_from_is_nothing() {
    assert_eq!(ranking_loss(&[1.0, 2.0], &[], PairTerms::default()).value, 0.0);
    assert_eq!(ranking_loss(&[1.0, 2.0], &[], PairTerms::default()).derivatives, [0.0, 0.0]);
    assert_eq!(policy_loss(&[], &[], &[], 0.2, 0).value, 0.0);
    assert!(token_rewards(&[], &[], &[3.0], &[0], 0.1).is_empty(), "no token carries the score");
    assert!(gae(&[], &[], &[0, 0], 1.0, 0.95).0.is_empty());
    let mut one = [4.0];
    whiten(&mut one, true);
    assert_eq!(one, [0.0]);
    // Far apart, a logarithm of a sigmoid is still a number.
    let far = ranking_loss(&[-1e4, 1e4], &[(0, 1)], PairTerms::default());
    assert_eq!((far.value, far.derivatives.as_slice()), (2e4, [-1.0, 1.0].as_slice()));
}

#[test]
fn at_the_old_policy_the_ratio_is_one() {
    let old = [-1.0, -2.0, -0.5];
    let loss = policy_loss(&old, &old, &[1.0, -2.0, 0.5], 0.2, 3);
    assert_eq!((loss.mean_ratio, loss.approx_kl, loss.clip_fraction), (1.0, 0.0, 0.0));
    close(&loss.derivatives, &[-1.0 / 3.0, 2.0 / 3.0, -0.5 / 3.0], "policy gradient");
}
