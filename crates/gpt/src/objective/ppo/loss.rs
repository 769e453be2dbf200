//! The losses of policy and value model over a part of a minibatch: sums over its tokens divided by `counted`, the tokens of the
//! whole minibatch, so that the parts add up to means.

/// The clipped surrogate of a part, its derivatives and figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyLoss {
    /// The loss.
    pub value: f64,
    /// By each token's log-probability.
    pub derivatives: Vec<f64>,
    /// Share of the tokens whose clipped term counted.
    pub clip_fraction: f64,
    /// Estimate of the KL from the old policy to the new: half the mean square of the difference of log-probabilities.
    pub approx_kl: f64,
    /// Mean probability ratio.
    pub mean_ratio: f64,
}

/// `Σ max(-A·ρ, -A·clip(ρ, 1-ε, 1+ε)) / counted` with `ρ = exp(new - old)`: the negative of the smaller of both terms (Schulman et
/// al. 2017, eq. 7).
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
        let free = -advantage * ratio;
        let clipped = -advantage * ratio.clamp(1.0 - clip_range, 1.0 + clip_range);
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

impl PolicyLoss {
    /// Adds the value and the figures of another part.
    pub fn add(&mut self, other: &PolicyLoss) {
        self.value += other.value;
        self.clip_fraction += other.clip_fraction;
        self.approx_kl += other.approx_kl;
        self.mean_ratio += other.mean_ratio;
    }
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

impl ValueLoss {
    /// Adds the value and the figures of another part.
    pub fn add(&mut self, other: &ValueLoss) {
        self.value += other.value;
        self.clip_fraction += other.clip_fraction;
    }
}
