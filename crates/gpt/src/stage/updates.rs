//! Figures of the updates of a step that has several.

use super::training_loop::metrics;
use crate::train::Update;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How far a policy may go within an iteration, in the estimate of the KL of a token from the one that was
/// sampled from (nats; what learns stays below 1).
const MAX_APPROX_KL: f64 = 10.0;

/// Figures of the updates of an iteration, of which the means are told.
#[derive(Default)]
pub(super) struct Figures {
    sums: BTreeMap<&'static str, (f64, u32)>,
    /// Why an update was left out, or all of them, where one was.
    pub(super) skipped: Option<String>,
}

impl Figures {
    /// No figures yet of episodes that nothing can be learned from if they have a `fault`.
    pub(super) fn new(fault: Option<String>) -> Self {
        Figures { skipped: fault, ..Figures::default() }
    }

    pub(super) fn add(&mut self, name: &'static str, value: f64) {
        let (sum, count) = self.sums.entry(name).or_default();
        *sum += value;
        *count += 1;
    }

    /// Adds the gradient's norm of an update under this name.
    pub(super) fn add_update(&mut self, name: &'static str, update: Update) {
        self.add(name, update.grad_norm);
        if !update.applied {
            self.skipped = Some(format!("gradient norm {}: the update was left out", update.grad_norm));
        }
    }

    pub(super) fn mean(&self, name: &str) -> f64 {
        self.sums.get(name).map_or(0.0, |(sum, count)| sum / f64::from(*count))
    }

    pub(super) fn means(&self) -> Map<String, Value> {
        metrics(self.sums.keys().map(|name| (*name, self.mean(name).into())))
    }

    /// Whether the updates went so far from the policy that answered that it is beyond use.
    pub(super) fn gone_too_far(&self) -> Option<String> {
        let kl = self.mean("policy/approxkl");
        (kl > MAX_APPROX_KL).then(|| {
            format!(
                "within one iteration the policy went {kl:.2e} nats a token from the one that was sampled from (policy/approxkl)"
            )
        })
    }
}
