//! The price of the distance from the reference policy.

/// A price that is fixed, or aims at a KL of an answer (Ziegler et al. 2019, §2.2; detail 20).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlController {
    coefficient: f64,
    /// The KL that is aimed at, and the episodes in which the price can adapt.
    aim: Option<(f64, f64)>,
}

impl KlController {
    /// A price of `coefficient` a nat at first, which adapts where there is a `target`.
    pub fn new(coefficient: f64, target: Option<f64>, horizon: f64) -> Self {
        KlController { coefficient, aim: target.map(|target| (target, horizon)) }
    }

    /// The price of a nat.
    pub fn coefficient(&self) -> f64 {
        self.coefficient
    }

    /// Goes on from a price that was reached.
    pub fn set_coefficient(&mut self, coefficient: f64) {
        self.coefficient = coefficient;
    }

    /// Learns that `episodes` answers had a mean `kl`: `β ← β · (1 + clip(kl/target - 1, ±0.2) · episodes/horizon)`.
    pub fn update(&mut self, kl: f64, episodes: usize) {
        if let Some((target, horizon)) = self.aim
            && kl.is_finite()
        {
            let error = (kl / target - 1.0).clamp(-0.2, 0.2);
            self.coefficient *= 1.0 + error * episodes as f64 / horizon;
        }
    }
}
