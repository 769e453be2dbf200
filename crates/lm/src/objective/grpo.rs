//! Reinforcement learning from groups of answers to the same prompt, without a value model: what an answer is
//! worth is told by the others of its group (Shao et al. 2024, GRPO, and what came after it).
//!
//! Lists over tokens are flat, one answer after another; `lens` says how long each is. Three choices make the
//! variants: how rewards become [advantages](Advantages), which [ratio](Ratio) is clipped, and what a token
//! [weighs](Reduction) in the loss.

use super::ppo::{clipped_terms, whiten};
use serde::{Deserialize, Serialize};

/// How the rewards `R` of a group's answers become advantages. Answers without a reward have none and do not
/// count; an answer that is alone with its reward, or in a group whose rewards are all equal, has exactly 0
/// but for `Whitened`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantages {
    /// `(R − mean) / (std + 1e-4)`, the variance by n − 1 (Shao et al. 2024, §4.1.2; TRL's 1e-4).
    #[default]
    Group,
    /// `R − mean` (Liu et al. 2025, Dr. GRPO): groups that are nearly all right or wrong are not louder than
    /// others.
    Mean,
    /// `R` less the mean of the others' (Kool et al. 2019; Ahmadian et al. 2024, RLOO).
    LeaveOneOut,
    /// The sum of rewards from a token on, whitened over all tokens of all groups (Hu et al. 2025,
    /// REINFORCE++).
    Whitened,
}

/// What the new probability of an answer is compared with the old one by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ratio {
    /// Each token by itself.
    #[default]
    Token,
    /// The whole answer.
    Sequence,
    /// The geometric mean over an answer's tokens (Zheng et al. 2025, GSPO, eq. 7).
    SequenceMean,
}

/// What a token weighs in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// All answers the same, so that tokens of long ones weigh less (Shao et al. 2024, eq. 3).
    #[default]
    Sequence,
    /// All tokens the same (Yu et al. 2025, DAPO, eq. 8).
    Tokens,
    /// All tokens the same, in every step: one over the most tokens that all answers could have (Liu et al.
    /// 2025).
    MaxTokens,
}

/// What estimates the KL of a token from the reference, with `d = log π − log π_ref` (Schulman 2020).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimate {
    /// `d`: right in the mean, negative at times.
    K1,
    /// `e^−d + d − 1`: right in the mean, never negative.
    #[default]
    K3,
}

impl KlEstimate {
    /// The estimate, and its derivative by `log π`.
    pub fn of(self, logprob: f64, reference: f64) -> (f64, f64) {
        let d = logprob - reference;
        match self {
            KlEstimate::K1 => (d, 1.0),
            KlEstimate::K3 => ((-d).exp_m1() + d, -(-d).exp_m1()),
        }
    }
}

/// Whether rewards tell the answers of a group apart: two that have one have different ones.
pub fn tells_apart(rewards: &[Option<f64>]) -> bool {
    let mut known = rewards.iter().flatten();
    known.next().is_some_and(|first| known.any(|other| other != first))
}

/// The advantage of every token. Groups of `group` answers follow one another; `prices` is what each token
/// takes off its answer's reward, or empty.
pub fn advantages(
    how: Advantages,
    rewards: &[Option<f64>],
    group: usize,
    lens: &[usize],
    prices: &[f64],
) -> Vec<f64> {
    let tokens: usize = lens.iter().sum();
    assert_eq!(rewards.len(), lens.len(), "a reward, or none, for each answer");
    assert!(prices.is_empty() || prices.len() == tokens, "a price for each token");
    let price = |at: usize| prices.get(at).copied().unwrap_or(0.0);
    if how == Advantages::Whitened {
        return whitened_returns(rewards, lens, price);
    }
    let mut first = 0;
    let less_prices = |(reward, len): (&Option<f64>, &usize)| {
        first += len;
        reward.map(|reward| reward - (first - len..first).map(price).sum::<f64>())
    };
    let rewards: Vec<Option<f64>> = rewards.iter().zip(lens).map(less_prices).collect();
    let of_answers = rewards.chunks(group.max(1)).flat_map(|rewards| of_group(how, rewards));
    of_answers.zip(lens).flat_map(|(advantage, len)| std::iter::repeat_n(advantage, *len)).collect()
}

fn of_group(how: Advantages, rewards: &[Option<f64>]) -> Vec<f64> {
    // Told by comparing: of equal numbers, the mean may differ in the last bit, and a deviation of 1e-4 makes
    // that large.
    if !tells_apart(rewards) {
        return vec![0.0; rewards.len()];
    }
    let known: Vec<f64> = rewards.iter().flatten().copied().collect();
    let n = known.len() as f64;
    let mean = known.iter().sum::<f64>() / n;
    let scale = match how {
        Advantages::Group => {
            let variance = known.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / (n - 1.0);
            1.0 / (variance.sqrt() + 1e-4)
        }
        // R − (ΣR − R) / (n − 1).
        Advantages::LeaveOneOut => n / (n - 1.0),
        Advantages::Mean | Advantages::Whitened => 1.0,
    };
    rewards.iter().map(|reward| reward.map_or(0.0, |reward| scale * (reward - mean))).collect()
}

/// The sum of what comes from each token on, with the reward on an answer's last, whitened over the tokens of
/// answers that have a reward.
fn whitened_returns(rewards: &[Option<f64>], lens: &[usize], price: impl Fn(usize) -> f64) -> Vec<f64> {
    let (mut returns, mut places, mut first) = (Vec::new(), Vec::new(), 0);
    for (reward, len) in rewards.iter().zip(lens) {
        if let Some(reward) = reward {
            let mut rest = *reward;
            for at in (first..first + len).rev() {
                rest -= price(at);
                returns.push(rest);
                places.push(at);
            }
        }
        first += len;
    }
    let differ = returns.iter().any(|other| Some(other) != returns.first());
    if differ {
        whiten(&mut returns, true)
    } else {
        returns.fill(0.0)
    }
    let mut advantages = vec![0.0; first];
    places.into_iter().zip(returns).for_each(|(at, advantage)| advantages[at] = advantage);
    advantages
}

/// What a token of each answer of a minibatch weighs. Answers that are not `learned` weigh nothing; with
/// `Tokens` their tokens are not counted, otherwise they are answers like all.
pub fn token_weights(how: Reduction, lens: &[usize], learned: &[bool], max_tokens: usize) -> Vec<f64> {
    let answers = lens.len().max(1) as f64;
    let tokens: usize = lens.iter().zip(learned).filter(|(_, learned)| **learned).map(|(len, _)| len).sum();
    let weight = |len: usize| match how {
        Reduction::Sequence => 1.0 / (answers * len.max(1) as f64),
        Reduction::Tokens => 1.0 / tokens.max(1) as f64,
        Reduction::MaxTokens => 1.0 / (answers * max_tokens.max(1) as f64),
    };
    lens.iter().zip(learned).map(|(len, learned)| if *learned { weight(*len) } else { 0.0 }).collect()
}

/// The loss of a policy on answers with advantages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surrogate {
    /// What is clipped.
    pub ratio: Ratio,
    /// How far below 1 it counts.
    pub clip_low: f64,
    /// How far above 1 it counts; more than below lets unlikely tokens rise (Yu et al. 2025, §3.1).
    pub clip_high: f64,
    /// The price of a nat of KL from the reference, as a part of the loss; 0 for none.
    pub kl_coef: f64,
    /// What estimates it.
    pub kl: KlEstimate,
    /// Whether the estimate is multiplied by the token's ratio, whose gradient makes that of the estimate the
    /// KL's own.
    pub kl_corrected: bool,
}

/// What is known of the tokens of some answers.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Log-probabilities under the policy as it is.
    pub new: &'a [f64],
    /// The same when they were drawn.
    pub old: &'a [f64],
    /// The same under the reference; empty where KL is no part of the loss.
    pub reference: &'a [f64],
    /// Of each.
    pub advantages: &'a [f64],
    /// What each answer's tokens [weigh](token_weights).
    pub weights: &'a [f64],
    /// How long each answer is.
    pub lens: &'a [usize],
    /// The tokens of the whole minibatch, of which figures are means.
    pub counted: usize,
}

/// The loss of a part of a minibatch, its derivatives and figures; those of the parts add up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SurrogateLoss {
    /// The loss.
    pub value: f64,
    /// By each token's log-probability.
    pub derivatives: Vec<f64>,
    /// The part of the loss that is not KL.
    pub policy: f64,
    /// Mean estimate of the KL of a token from the reference.
    pub kl: f64,
    /// Share of the tokens that were held from becoming less likely, and from becoming more likely.
    pub clipped: [f64; 2],
    /// As in [`super::ppo::PolicyLoss`].
    pub approx_kl: f64,
    /// The same.
    pub mean_ratio: f64,
}

impl Surrogate {
    /// `Σ w · max(−A·ρ, −A·clip(ρ, 1 − ε_low, 1 + ε_high)) + kl_coef · Σ w · KL`.
    pub fn loss(&self, tokens: &Tokens<'_>) -> SurrogateLoss {
        let mut loss =
            SurrogateLoss { derivatives: Vec::with_capacity(tokens.new.len()), ..SurrogateLoss::default() };
        let mut first = 0;
        for (&len, &weight) in tokens.lens.iter().zip(tokens.weights) {
            self.add_answer(tokens, first..first + len, weight, &mut loss);
            first += len;
        }
        assert_eq!(first, tokens.new.len(), "lens do not add up to the tokens");
        loss.value += loss.policy;
        loss
    }

    fn add_answer(
        &self,
        all: &Tokens<'_>,
        span: std::ops::Range<usize>,
        weight: f64,
        loss: &mut SurrogateLoss,
    ) {
        let each = 1.0 / all.counted.max(1) as f64;
        let difference = |at: usize| all.new[at] - all.old[at];
        let whole: f64 = span.clone().map(difference).sum();
        // The derivative of an answer's ratio by any of its tokens, in ratios.
        let (shared, by_token) = match self.ratio {
            Ratio::Token => (None, 1.0),
            Ratio::Sequence => (Some(whole.exp()), 1.0),
            Ratio::SequenceMean => {
                let by = 1.0 / span.len().max(1) as f64;
                (Some((by * whole).exp()), by)
            }
        };
        let (mut of_answer, start) = (0.0, loss.derivatives.len());
        for at in span {
            let (own, advantage) = (difference(at).exp(), all.advantages[at]);
            let ratio = shared.unwrap_or(own);
            let (free, clipped) = clipped_terms(advantage, ratio, [self.clip_low, self.clip_high]);
            loss.policy += weight * free.max(clipped);
            let by_ratio = if clipped > free { 0.0 } else { weight * free };
            of_answer += by_token * by_ratio;
            let mut derivative = if shared.is_none() { by_ratio } else { 0.0 };
            if let Some(&reference) = all.reference.get(at) {
                let (kl, by_logprob) = self.kl.of(all.new[at], reference);
                loss.kl += each * kl;
                let scale = if self.kl_corrected { own } else { 1.0 };
                let corrected = if self.kl_corrected { scale * kl } else { 0.0 };
                loss.value += self.kl_coef * weight * scale * kl;
                derivative += self.kl_coef * weight * (scale * by_logprob + corrected);
            }
            loss.derivatives.push(derivative);
            let is_clipped = clipped > free;
            loss.clipped[0] += if is_clipped && advantage < 0.0 { each } else { 0.0 };
            loss.clipped[1] += if is_clipped && advantage > 0.0 { each } else { 0.0 };
            loss.approx_kl += each * 0.5 * difference(at).powi(2);
            loss.mean_ratio += each * ratio;
        }
        if shared.is_some() {
            loss.derivatives[start..].iter_mut().for_each(|derivative| *derivative += of_answer);
        }
    }
}

/// What an answer of `len` tokens loses by its length: nothing up to `cache` tokens before `max_tokens`, then
/// ever more up to 1 (Yu et al. 2025, eq. 13). With a `cache` of 0, nothing.
pub fn overlong_price(len: usize, max_tokens: usize, cache: usize) -> f64 {
    let over = (len + cache).saturating_sub(max_tokens) as f64;
    if cache == 0 { 0.0 } else { (over / cache as f64).min(1.0) }
}
