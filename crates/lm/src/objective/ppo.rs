//! The arithmetic of proximal policy optimisation from a reward model (Schulman et al. 2017; Ziegler et al.
//! 2019; Ouyang et al. 2022): numbers of tokens in, losses and derivatives out. Details are numbered as in
//! Huang et al. (2024).
//!
//! Lists are flat over the tokens of answers, one answer after another; `lens` says how long each is. There
//! is no padding that could enter a mean.
//!
//! Losses are those of a part of a minibatch: sums over its tokens divided by `counted`, the tokens of the
//! whole minibatch, so that the parts add up to means.

/// The reward of every token: `-kl_coef · (log π - log π_ref)`, and on an answer's last token its score
/// besides (Ziegler et al. 2019, eq. 2; detail 17). An answer without tokens has no token that could carry
/// its score.
pub fn token_rewards(
    logprobs: &[f64],
    ref_logprobs: &[f64],
    scores: &[f64],
    lens: &[usize],
    kl_coef: f64,
) -> Vec<f64> {
    assert_eq!(logprobs.len(), ref_logprobs.len(), "a reference for each token");
    assert_eq!(logprobs.len(), lens.iter().sum::<usize>(), "lens do not add up to the tokens");
    assert_eq!(scores.len(), lens.len(), "a score for each answer");
    let mut rewards: Vec<f64> = logprobs.iter().zip(ref_logprobs).map(|(p, r)| -kl_coef * (p - r)).collect();
    let mut end = 0;
    for (&len, score) in lens.iter().zip(scores) {
        end += len;
        if len > 0 {
            rewards[end - 1] += score;
        }
    }
    rewards
}

/// Generalised advantage estimation (Schulman et al. 2015, eq. 16): with `δₜ = rₜ + γ·Vₜ₊₁ - Vₜ`, and nothing
/// after an answer's end, the advantages `Aₜ = δₜ + γλ·Aₜ₊₁` and the returns `Aₜ + Vₜ` that values learn.
pub fn gae(rewards: &[f64], values: &[f64], lens: &[usize], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(rewards.len(), values.len(), "a value for each token");
    assert_eq!(rewards.len(), lens.iter().sum::<usize>(), "lens do not add up to the tokens");
    let mut advantages = vec![0.0; rewards.len()];
    let mut first = 0;
    for &len in lens {
        let (mut next_value, mut next_advantage) = (0.0, 0.0);
        for t in (first..first + len).rev() {
            let delta = rewards[t] + gamma * next_value - values[t];
            next_advantage = delta + gamma * lambda * next_advantage;
            advantages[t] = next_advantage;
            next_value = values[t];
        }
        first += len;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// Divides by the standard deviation, of the biased variance (detail 18), and with `shift_mean` the mean
/// becomes 0; otherwise it stays.
pub fn whiten(values: &mut [f64], shift_mean: bool) {
    if values.is_empty() {
        return;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + 1e-8).sqrt();
    let kept = if shift_mean { 0.0 } else { mean };
    values.iter_mut().for_each(|x| *x = (*x - mean) * scale + kept);
}

/// A KL coefficient that is fixed, or adapts to a target KL of an answer (Ziegler et al. 2019, §2.2; detail
/// 20).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlController {
    coefficient: f64,
    /// The target KL, and the horizon of the adaptation in episodes.
    aim: Option<(f64, f64)>,
}

impl KlController {
    /// Begins at `coefficient`, and adapts where there is a `target`.
    pub fn new(coefficient: f64, target: Option<f64>, horizon: f64) -> Self {
        KlController { coefficient, aim: target.map(|target| (target, horizon)) }
    }

    /// The KL coefficient β.
    pub fn coefficient(&self) -> f64 {
        self.coefficient
    }

    /// Resumes from a coefficient that was reached.
    pub fn set_coefficient(&mut self, coefficient: f64) {
        self.coefficient = coefficient;
    }

    /// Learns that `episodes` answers had a mean `kl`: `β ← β · (1 + clip(kl/target - 1, ±0.2) ·
    /// episodes/horizon)`.
    pub fn update(&mut self, kl: f64, episodes: usize) {
        if let Some((target, horizon)) = self.aim
            && kl.is_finite()
        {
            let error = (kl / target - 1.0).clamp(-0.2, 0.2);
            self.coefficient *= 1.0 + error * episodes as f64 / horizon;
        }
    }
}

/// The clipped surrogate of a part, its derivatives and figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyLoss {
    /// The loss.
    pub value: f64,
    /// By each token's log-probability.
    pub derivatives: Vec<f64>,
    /// Share of the tokens whose clipped term counted.
    pub clip_fraction: f64,
    /// Estimate of the KL from the old policy to the new: half the mean square of the difference of
    /// log-probabilities.
    pub approx_kl: f64,
    /// Mean probability ratio.
    pub mean_ratio: f64,
}

/// `Σ max(-A·ρ, -A·clip(ρ, 1-ε, 1+ε)) / counted` with `ρ = exp(new - old)`: the negative of the smaller of
/// both terms (Schulman et al. 2017, eq. 7).
pub fn policy_loss(
    new: &[f64],
    old: &[f64],
    advantages: &[f64],
    clip_range: f64,
    counted: usize,
) -> PolicyLoss {
    assert!(
        new.len() == old.len() && new.len() == advantages.len(),
        "an advantage and a ratio for each token"
    );
    let each = 1.0 / counted.max(1) as f64;
    let mut loss = PolicyLoss { derivatives: Vec::with_capacity(new.len()), ..PolicyLoss::default() };
    for ((new, old), advantage) in new.iter().zip(old).zip(advantages) {
        let difference = new - old;
        let ratio = difference.exp();
        let (free, clipped) = clipped_terms(*advantage, ratio, [clip_range; 2]);
        loss.value += each * free.max(clipped);
        // Where the clipped term counts, the ratio is beyond the range, and the term does not depend on it.
        let is_clipped = clipped > free;
        loss.derivatives.push(if is_clipped { 0.0 } else { each * free });
        loss.clip_fraction += if is_clipped { each } else { 0.0 };
        loss.approx_kl += each * 0.5 * difference * difference;
        loss.mean_ratio += each * ratio;
    }
    loss
}

/// `-A·ρ` and `-A·clip(ρ, 1-low, 1+high)`: the larger one counts, and where that is the second, the ratio is
/// beyond its range.
pub(super) fn clipped_terms(advantage: f64, ratio: f64, [low, high]: [f64; 2]) -> (f64, f64) {
    (-advantage * ratio, -advantage * ratio.clamp(1.0 - low, 1.0 + high))
}

/// The loss of values of a part, its derivatives and figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValueLoss {
    /// The loss.
    pub value: f64,
    /// By each value.
    pub derivatives: Vec<f64>,
    /// Share of the tokens whose clipped term counted.
    pub clip_fraction: f64,
}

/// `½ Σ max((V - R)², (V' - R)²) / counted` with `V' = clip(V, old - ε, old + ε)` (detail 19).
pub fn value_loss(new: &[f64], old: &[f64], returns: &[f64], clip: f64, counted: usize) -> ValueLoss {
    assert!(new.len() == old.len() && new.len() == returns.len(), "a return for each value");
    let each = 1.0 / counted.max(1) as f64;
    let mut loss = ValueLoss { derivatives: Vec::with_capacity(new.len()), ..ValueLoss::default() };
    for ((&new, old), target) in new.iter().zip(old).zip(returns) {
        let near = new.clamp(old - clip, old + clip);
        let (free, clipped) = ((new - target).powi(2), (near - target).powi(2));
        loss.value += each * 0.5 * free.max(clipped);
        let is_clipped = clipped > free;
        loss.derivatives.push(if is_clipped { 0.0 } else { each * (new - target) });
        loss.clip_fraction += if is_clipped { each } else { 0.0 };
    }
    loss
}
