//! Passes through a model: what a training step, a frozen reference and a measurement have in common.

use super::Trainer;
use crate::model::{self, Activations, Adapter, Config, Keep, Sequences, Targets, Weights};
use kernels::{Backend, Dropout};

/// The buffers of a pass and its results.
pub(super) struct Passes<B: Backend> {
    pub(super) activations: Activations<B>,
    pub(super) keep: Keep,
    /// What the head says, and the derivatives by it: of each row's log-probability, then of its entropy.
    pub(super) said: [B::Scalars; 2],
    pub(super) derivatives: [B::Scalars; 2],
    /// What the head said, on the host.
    pub(super) outputs: Vec<f64>,
    pub(super) scores: Vec<f32>,
}

/// What the language-model head says of each row.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'a> {
    /// The log-probability of its target; 0 where there is none.
    pub logprobs: &'a [f64],
    /// The entropy of its distribution; empty where nobody asked.
    pub entropies: &'a [f64],
}

impl<B: Backend> Passes<B> {
    pub(super) fn new(b: &mut B, config: &Config, keep: Keep) -> Self {
        Passes {
            activations: Activations::keeping(b, config, keep),
            keep,
            said: [(); 2].map(|()| b.scalars()),
            derivatives: [(); 2].map(|()| b.scalars()),
            outputs: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// What the head says, read at the end of the pass: log-probabilities, and entropies if they are asked
    /// for.
    pub(super) fn outputs(
        &mut self,
        b: &mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        batch: Sequences<'_>,
        targets: Targets<'_>,
        with_entropies: bool,
    ) -> Outputs<'_> {
        let Self { activations, said: [logprobs, entropies], outputs, .. } = self;
        for list in [&mut *logprobs, entropies] {
            b.upload_scalars(list, &[]);
        }
        model::forward(b, config, weights, activations, batch);
        activations.ask(b, targets);
        model::logprobs(b, weights, activations, logprobs, with_entropies.then_some(&mut *entropies));
        b.read(outputs, &[logprobs, entropies]);
        let (logprobs, entropies) = outputs.split_at(targets.tokens.len());
        Outputs { logprobs, entropies }
    }

    /// The log-probabilities of the last pass, of so many rows.
    fn told_logprobs(&self, rows: usize) -> &[f64] {
        &self.outputs[..rows]
    }

    /// Fills `scores`.
    pub(super) fn scores(
        &mut self,
        b: &mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        batch: Sequences<'_>,
        rows: &[u32],
        dropout: Option<&Dropout>,
    ) {
        model::forward(b, config, weights, &mut self.activations, batch);
        model::scores(b, config, weights, &mut self.activations, rows, dropout, &mut self.scores);
    }
}

/// A model that is not trained: a reference policy, a reward model.
pub struct Frozen<B: Backend> {
    /// Its shape.
    pub config: Config,
    /// Its weights.
    pub weights: Weights<B::Tensor>,
    pub(super) passes: Passes<B>,
}

impl<B: Backend> Frozen<B> {
    /// A model with these weights. Its passes have no way back, and keep little.
    pub fn new(b: &mut B, config: Config, weights: Weights<B::Tensor>) -> Self {
        Frozen { passes: Passes::new(b, &config, Keep::Inputs), config, weights }
    }

    /// Log-probabilities of targets.
    pub fn logprobs(&mut self, b: &mut B, batch: Sequences<'_>, targets: Targets<'_>) -> &[f64] {
        self.passes.outputs(b, &self.config, &self.weights, batch, targets, false).logprobs
    }

    /// The scores `[rows, n_label]` of some rows.
    pub fn scores(&mut self, b: &mut B, batch: Sequences<'_>, rows: &[u32]) -> &[f32] {
        self.passes.scores(b, &self.config, &self.weights, batch, rows, None);
        &self.passes.scores
    }
}

/// The policy that another one, in training, stays close to.
pub enum Reference<B: Backend> {
    /// A model of its own.
    Apart(Box<Frozen<B>>),
    /// The weights of the policy, which stay as they are, with another adapter beside them or with none.
    Beside(Option<Adapter<B::Tensor>>),
}

impl<B: Backend> Reference<B> {
    /// Log-probabilities of targets.
    pub fn logprobs<'a>(
        &'a mut self,
        b: &mut B,
        policy: &'a mut Trainer<B>,
        batch: Sequences<'_>,
        targets: Targets<'_>,
    ) -> &'a [f64] {
        match self {
            Reference::Apart(model) => model.logprobs(b, batch, targets),
            Reference::Beside(adapter) => {
                std::mem::swap(adapter, &mut policy.weights.adapter);
                let Trainer { config, weights, passes, .. } = policy;
                passes.outputs(b, config, weights, batch, targets, false);
                std::mem::swap(adapter, &mut policy.weights.adapter);
                policy.passes.told_logprobs(targets.tokens.len())
            }
        }
    }
}
