//! The arithmetic of groups of answers against NumPy and PyTorch (`tools/golden_rlhf.py`), which has TRL's
//! own figures beside its own, and every derivative against differences.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use lm::objective::grpo::{
    Advantages, KlEstimate, Ratio, Reduction, Surrogate, SurrogateLoss, Tokens, advantages, overlong_price,
    tells_apart, token_weights,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    rewards: Vec<Option<f64>>,
    new: Vec<f64>,
    old: Vec<f64>,
    #[serde(rename = "ref")]
    reference: Vec<f64>,
    lens: Vec<usize>,
    prices: Vec<f64>,
    leave_one_out_less_prices: Vec<f64>,
    whitened: Vec<f64>,
    some: Vec<Option<f64>>,
    of_some: Value,
    cases: Vec<Case>,
    #[serde(flatten)]
    by_name: Value,
}

#[derive(Deserialize)]
struct Case {
    ratio: Ratio,
    reduction: Reduction,
    low: f64,
    high: f64,
    kl_coef: f64,
    kl: KlEstimate,
    kl_corrected: bool,
    #[serde(default)]
    learned: Option<Vec<bool>>,
    advantages: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

const BY_GROUP: [(Advantages, &str); 3] =
    [(Advantages::Group, "group"), (Advantages::Mean, "mean"), (Advantages::LeaveOneOut, "leave_one_out")];

fn golden() -> Golden {
    let whole: Value = serde_json::from_str(include_str!("golden/rlhf.json")).unwrap();
    serde_json::from_value(whole["grpo"].clone()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < 1e-9, "{what}[{i}]: {got}, expected {want}");
    }
}

/// One value for each answer, at each of its tokens.
fn spread(values: &[f64], lens: &[usize]) -> Vec<f64> {
    values.iter().zip(lens).flat_map(|(value, len)| vec![*value; *len]).collect()
}

impl Case {
    fn surrogate(&self) -> Surrogate {
        let &Case { ratio, low, high, kl_coef, kl, kl_corrected, .. } = self;
        Surrogate { ratio, clip_low: low, clip_high: high, kl_coef, kl, kl_corrected }
    }

    /// The loss at `new`, of all answers at once or one by one.
    fn losses(&self, golden: &Golden, new: &[f64], one_by_one: bool) -> Vec<SurrogateLoss> {
        let lens = &golden.lens;
        let learned = self.learned.clone().unwrap_or_else(|| vec![true; lens.len()]);
        let (weights, advantages) =
            (token_weights(self.reduction, lens, &learned, 8), spread(&self.advantages, lens));
        let reference = if self.kl_coef > 0.0 { &golden.reference[..] } else { &[] };
        let part = |answers: std::ops::Range<usize>| {
            let [start, end] = [answers.start, answers.end].map(|at| lens[..at].iter().sum::<usize>());
            self.surrogate().loss(&Tokens {
                new: &new[start..end],
                old: &golden.old[start..end],
                reference: if reference.is_empty() { &[] } else { &reference[start..end] },
                advantages: &advantages[start..end],
                weights: &weights[answers.clone()],
                lens: &lens[answers],
                counted: new.len(),
            })
        };
        let all = 0..lens.len();
        if one_by_one { all.map(|at| part(at..at + 1)).collect() } else { vec![part(all)] }
    }
}

#[test]
fn advantages_of_groups() {
    let golden = golden();
    let (rewards, lens) = (&golden.rewards, &golden.lens);
    for (how, name) in BY_GROUP {
        let wanted = spread(&numbers(&golden.by_name[name]), lens);
        close(&advantages(how, rewards, 4, lens, &[]), &wanted, name);
        let lens = vec![1; golden.some.len()];
        close(&advantages(how, &golden.some, 4, &lens, &[]), &numbers(&golden.of_some[name]), name);
    }
    let less_prices = advantages(Advantages::LeaveOneOut, rewards, 4, lens, &golden.prices);
    close(&less_prices, &spread(&golden.leave_one_out_less_prices, lens), "less prices");
    let whitened = advantages(Advantages::Whitened, rewards, 4, lens, &golden.prices);
    close(&whitened, &golden.whitened, "whitened");
    let per_answer = advantages(Advantages::Whitened, &golden.some, 4, &[2; 12], &[]);
    assert!(per_answer.chunks(2).zip(&golden.some).all(|(of, reward)| reward.is_some() || of == [0.0, 0.0]));
    close(&[per_answer.iter().sum()], &[0.0], "the mean of those that have a reward");
}

/// Seven times 0.7 in f32, or the mean of 0.1s in f64, is off by a bit, which a deviation of 1e-4 would make
/// large.
#[test]
fn equal_rewards_teach_exactly_nothing() {
    for how in [Advantages::Group, Advantages::Mean, Advantages::LeaveOneOut, Advantages::Whitened] {
        for rewards in
            [vec![Some(0.1); 7], vec![Some(0.7), None, Some(0.7)], vec![None, Some(3.0)], vec![None]]
        {
            let lens = vec![3; rewards.len()];
            let found = advantages(how, &rewards, rewards.len(), &lens, &[]);
            assert!(found.iter().all(|advantage| *advantage == 0.0), "{how:?} {rewards:?}: {found:?}");
            assert!(!tells_apart(&rewards), "{rewards:?}");
        }
    }
    assert!(tells_apart(&[None, Some(1.0), Some(0.0)]));
}

#[test]
fn losses_of_groups() {
    let golden = golden();
    for case in &golden.cases {
        let what = format!("{:?} {:?} {} {:?}", case.ratio, case.reduction, case.kl_coef, case.kl);
        let whole = &case.losses(&golden, &golden.new, false)[0];
        close(&[whole.value], &[case.value], &what);
        close(&whole.derivatives, &case.gradient, &what);
        let parts = case.losses(&golden, &golden.new, true);
        close(&[parts.iter().map(|part| part.value).sum()], &[case.value], &what);
        let derivatives: Vec<f64> = parts.into_iter().flat_map(|part| part.derivatives).collect();
        close(&derivatives, &case.gradient, &what);
    }
}

#[test]
fn derivatives_are_those_of_the_losses() {
    let golden = golden();
    for case in &golden.cases {
        let found = &case.losses(&golden, &golden.new, false)[0].derivatives;
        for at in 0..golden.new.len() {
            let moved = |by: f64| {
                let mut new = golden.new.clone();
                new[at] += by;
                case.losses(&golden, &new, false)[0].value
            };
            let numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((numeric - found[at]).abs() < 1e-7, "{at}: {}, by differences {numeric}", found[at]);
        }
    }
}

#[test]
fn figures_are_means_over_tokens() {
    let golden = golden();
    let case = |kl_coef| golden.cases.iter().find(|case| case.kl_coef == kl_coef).unwrap();
    let loss = &case(0.0).losses(&golden, &golden.new, false)[0];
    close(&loss.clipped, &[0.1, 0.2], "shares of clipped tokens");
    let of = |each: &dyn Fn(f64) -> f64| {
        golden.new.iter().zip(&golden.old).map(|(new, old)| each(new - old)).sum::<f64>() / 10.0
    };
    let figures = [loss.mean_ratio, loss.approx_kl, loss.kl];
    close(&figures, &[of(&f64::exp), of(&|d| 0.5 * d * d), 0.0], "ratio and distances");
    let kl = case(0.04).losses(&golden, &golden.new, false)[0].kl;
    assert!((kl - 0.009_606_520).abs() < 1e-9, "TRL has another KL than {kl}");
}

#[test]
fn at_the_old_policy_the_ratio_is_one() {
    let golden = golden();
    for ratio in [Ratio::Token, Ratio::Sequence, Ratio::SequenceMean] {
        let usual = golden.cases[0].surrogate();
        let loss = Surrogate { ratio, ..usual }.loss(&Tokens {
            new: &[-1.0, -2.0, -0.5],
            old: &[-1.0, -2.0, -0.5],
            reference: &[],
            advantages: &[2.0, 2.0, -1.0],
            weights: &[0.25, 0.5],
            lens: &[2, 1],
            counted: 3,
        });
        assert_eq!((loss.mean_ratio, loss.approx_kl, loss.clipped), (1.0, 0.0, [0.0, 0.0]));
        let by = if ratio == Ratio::Sequence { 2.0 } else { 1.0 };
        close(&loss.derivatives, &[-0.5 * by, -0.5 * by, 0.5], "policy gradient");
    }
}

#[test]
fn the_estimates_of_a_token() {
    let [(k1, by1), (k3, by3)] = [KlEstimate::K1, KlEstimate::K3].map(|kl| kl.of(-1.2, -0.9));
    close(&[k1, by1], &[-0.3, 1.0], "k1");
    assert!((k3 - 0.049_858_8).abs() < 1e-7 && (by3 + 0.349_858_8).abs() < 1e-7, "{k3} {by3}");
}

#[test]
fn long_answers_pay() {
    let found = [80, 81, 90, 100, 130].map(|len| overlong_price(len, 100, 20));
    close(&found, &[0.0, 0.05, 0.5, 1.0, 1.0], "prices");
    assert_eq!(overlong_price(500, 100, 0), 0.0);
}
