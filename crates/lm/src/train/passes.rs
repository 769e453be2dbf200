//! Passes through a model: what a training step, a frozen reference and a measurement have in common.

use crate::model::{self, Activations, Config, Sequences, Targets, Weights};
use kernels::{Backend, Dropout};

/// The buffers of a pass and its results.
pub(super) struct Passes<T> {
    pub(super) activations: Activations<T>,
    pub(super) logprobs: Vec<f64>,
    pub(super) entropies: Vec<f64>,
    pub(super) scores: Vec<f32>,
}

impl<T> Passes<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B, config: &Config) -> Self {
        Passes {
            activations: Activations::new(b, config),
            logprobs: Vec::new(),
            entropies: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// Fills `logprobs`, and `entropies` if they are asked for.
    pub(super) fn logprobs<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        config: &Config,
        weights: &Weights<T>,
        batch: Sequences<'_>,
        targets: Targets<'_>,
        with_entropies: bool,
    ) {
        let Self { activations, logprobs, entropies, .. } = self;
        logprobs.resize(targets.tokens.len(), 0.0);
        entropies.resize(targets.tokens.len(), 0.0);
        let entropies = with_entropies.then_some(entropies.as_mut_slice());
        model::forward(b, config, weights, activations, batch);
        model::logprobs(b, config, weights, activations, targets, logprobs, entropies);
    }

    /// Fills `scores`.
    pub(super) fn scores<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        config: &Config,
        weights: &Weights<T>,
        batch: Sequences<'_>,
        rows: &[u32],
        dropout: Option<&Dropout>,
    ) {
        model::forward(b, config, weights, &mut self.activations, batch);
        model::scores(b, config, weights, &mut self.activations, rows, dropout, &mut self.scores);
    }
}

/// A model that is not trained: a reference policy, a reward model.
pub struct Frozen<T> {
    /// Its shape.
    pub config: Config,
    /// Its weights.
    pub weights: Weights<T>,
    passes: Passes<T>,
}

impl<T> Frozen<T> {
    /// A model with these weights.
    pub fn new<B: Backend<Tensor = T>>(b: &mut B, config: Config, weights: Weights<T>) -> Self {
        Frozen { passes: Passes::new(b, &config), config, weights }
    }

    /// Log-probabilities of targets.
    pub fn logprobs<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        targets: Targets<'_>,
    ) -> &[f64] {
        self.passes.logprobs(b, &self.config, &self.weights, batch, targets, false);
        &self.passes.logprobs
    }

    /// The scores `[rows, n_label]` of some rows.
    pub fn scores<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        rows: &[u32],
    ) -> &[f32] {
        self.passes.scores(b, &self.config, &self.weights, batch, rows, None);
        &self.passes.scores
    }
}
