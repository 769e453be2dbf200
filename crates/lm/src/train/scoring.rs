//! Training a head that scores: alone, beside language modelling, or on a trunk that stays as it is.

use super::Trainer;
use crate::model::{self, Before, HeadDerivatives, Sequences, Spec, Targets};
use kernels::{Backend, Dropout};

/// What is learned of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Learns {
    /// All of it.
    #[default]
    Everything,
    /// The head that scores, and the embeddings of these tokens.
    HeadAnd(Vec<u32>),
}

impl Learns {
    /// Whether no value of the leaf is frozen.
    pub(super) fn all_of(&self, spec: &Spec) -> bool {
        *self == Learns::Everything || spec.name.starts_with("score.")
    }

    /// Whether any value of the leaf is learned.
    pub(super) fn any_of(&self, spec: &Spec) -> bool {
        self.all_of(spec) || spec.name == "wte"
    }
}

/// Language modelling beside the scores of a pass: what is predicted of each row, and the loss's derivatives
/// by the log-probability of each target.
#[derive(Clone, Copy, Debug)]
pub struct TextLoss<'a> {
    /// One for each row, or [`NO_TARGET`](kernels::NO_TARGET).
    pub targets: &'a [u32],
    /// One for each row.
    pub derivatives: &'a [f64],
}

impl<T> Trainer<T> {
    /// Adds a micro-batch's gradients for a loss of the scores `[rows, n_label]` of some rows, which is told
    /// them and writes its derivatives (they come as zeros); returns what `loss` returns.
    pub fn accumulate_scores<B: Backend<Tensor = T>, R>(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        rows: &[u32],
        loss: impl FnOnce(&[f32], &mut [f32]) -> R,
    ) -> R {
        self.accumulate_scores_and_text(b, batch, rows, None, None, loss).0
    }

    /// The same with `dropout` of what the head reads, and with the gradients of a loss of the text itself;
    /// the log-probabilities of its targets come second.
    pub fn accumulate_scores_and_text<B: Backend<Tensor = T>, R>(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        rows: &[u32],
        dropout: Option<&Dropout>,
        text: Option<TextLoss<'_>>,
        loss: impl FnOnce(&[f32], &mut [f32]) -> R,
    ) -> (R, &[f64]) {
        self.begin(b);
        let Self { config, weights, gradients, passes, .. } = self;
        passes.scores(b, config, weights, batch, rows, dropout);
        let mut derivatives = vec![0.0; passes.scores.len()];
        let told = loss(&passes.scores, &mut derivatives);
        let groups = [batch.tokens.len()];
        passes.logprobs.clear();
        let mut before = Before::Nothing;
        if let Some(TextLoss { targets, derivatives }) = text {
            passes.logprobs.resize(targets.len(), 0.0);
            model::head_backward(
                b,
                config,
                weights,
                gradients,
                &passes.activations,
                Targets::new(targets),
                HeadDerivatives::by_logprobs(derivatives),
                &mut passes.logprobs,
                &groups,
            );
            before = Before::LanguageModel;
        }
        let a = &passes.activations;
        model::scores_backward(b, config, weights, gradients, a, rows, dropout, &derivatives, before);
        model::backward(b, config, weights, gradients, a, batch, &groups);
        (told, &self.passes.logprobs)
    }

    /// From now on nothing is learned but the head that scores and the embeddings of `tokens`.
    pub fn freeze_trunk(&mut self, tokens: &[u32]) {
        self.learns = Learns::HeadAnd(tokens.to_vec());
        self.gradients.blocks_learn = false;
    }

    /// Sets the gradients of everything that is frozen to zero: of a leaf that is learned in part, what has
    /// none, and no decay, AdamW leaves as it is to the bit.
    pub(super) fn forget_frozen<B: Backend<Tensor = T>>(&mut self, b: &mut B) {
        let Learns::HeadAnd(tokens) = &self.learns else { return };
        self.gradients.finish(b);
        let width = self.config.d_model;
        let mut kept = b.zeros(tokens.len() * width);
        b.gather_forward(&mut kept, &self.gradients.weights.wte, tokens, width);
        for (gradient, spec) in self.gradients.weights.leaves_mut().into_iter().zip(self.specs.leaves()) {
            if !self.learns.all_of(spec) {
                b.fill(gradient, 0.0);
            }
        }
        b.gather_backward(&mut self.gradients.weights.wte, &kept, tokens, width);
    }
}
