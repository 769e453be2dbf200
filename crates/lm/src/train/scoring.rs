//! Training a head that scores: alone, beside language modelling, or on a trunk that stays as it is.

use super::{Lane, Trainer};
use crate::model::{self, Before, HeadDerivatives, Sequences, Spec, Targets};
use kernels::{Backend, Dropout};

/// What is learned of a model.
pub(super) enum Learns<B: Backend> {
    /// All of it.
    Everything,
    /// The head that scores, and the embeddings of these tokens, whose gradients are `kept` for a moment.
    HeadAnd { tokens: B::Ids, kept: B::Tensor },
}

impl<B: Backend> Learns<B> {
    /// Whether no value of the leaf is frozen.
    pub(super) fn all_of(&self, spec: &Spec) -> bool {
        matches!(self, Learns::Everything) || spec.name.starts_with("score.")
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

impl<B: Backend> Trainer<B> {
    /// Adds a micro-batch's gradients for a loss of the scores `[rows, n_label]` of some rows, which is told
    /// them and writes its derivatives (they come as zeros); returns what `loss` returns. The rows ascend; the
    /// gradients are part of the sum of `lane`.
    pub fn accumulate_scores<R>(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        rows: &[u32],
        lane: Lane,
        loss: impl FnOnce(&[f32], &mut [f32]) -> R,
    ) -> R {
        self.accumulate_scores_and_text(b, batch, rows, None, None, lane, loss)
    }

    /// The same with `dropout` of what the head reads, and with the gradients of a loss of the text itself,
    /// whose log-probabilities are [told](Self::told) after the update.
    #[allow(clippy::too_many_arguments)]
    pub fn accumulate_scores_and_text<R>(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        rows: &[u32],
        dropout: Option<&Dropout>,
        text: Option<TextLoss<'_>>,
        lane: Lane,
        loss: impl FnOnce(&[f32], &mut [f32]) -> R,
    ) -> R {
        self.begin(b, lane);
        let Self { config, weights, gradients, passes, results, .. } = self;
        passes.scores(b, config, weights, batch, rows, dropout);
        let mut derivatives = vec![0.0; passes.scores.len()];
        let told = loss(&passes.scores, &mut derivatives);
        let all = batch.tokens.len();
        let groups = lane.groups(batch.lens, &all);
        let mut before = Before::Nothing;
        if let Some(TextLoss { targets, derivatives }) = text {
            let [by_logprob, _] = &mut passes.derivatives;
            b.upload_scalars(by_logprob, derivatives);
            passes.activations.ask(b, Targets::new(targets));
            let by = HeadDerivatives::by_logprobs(&*by_logprob);
            let a = &passes.activations;
            model::head_backward(b, config, weights, gradients, a, by, results, groups);
            before = Before::LanguageModel;
        }
        let a = &passes.activations;
        let scored = rows_within(rows, groups);
        model::scores_backward(b, config, weights, gradients, a, dropout, &derivatives, before, &scored);
        model::backward(b, config, weights, gradients, a, groups);
        told
    }

    /// From now on nothing is learned but the head that scores and the embeddings of `tokens`.
    pub fn freeze_trunk(&mut self, b: &mut B, tokens: &[u32]) {
        let (mut ids, kept) = (b.ids(), b.zeros(tokens.len() * self.config.d_model));
        b.upload_ids(&mut ids, tokens);
        self.learns = Learns::HeadAnd { tokens: ids, kept };
        self.gradients.blocks_learn = false;
    }

    /// Of a leaf that is learned in part, sets the gradients of what is frozen to zero: without decay AdamW
    /// leaves it as it is to the bit. Leaves that are frozen as a whole are no parameters of an update.
    pub(super) fn forget_frozen(&mut self, b: &mut B) {
        self.finish(b);
        let Self { config, learns: Learns::HeadAnd { tokens, kept }, gradients, .. } = self else { return };
        let wte = &mut gradients.weights.wte;
        b.gather_forward(kept, wte, tokens, config.d_model);
        b.fill(wte, 0.0);
        b.gather_backward(wte, kept, tokens, config.d_model);
    }
}

/// How many of `rows`, which ascend, are in each of `groups` of all rows.
fn rows_within(rows: &[u32], groups: &[usize]) -> Vec<usize> {
    let (mut left, mut end) = (rows, 0);
    let within = groups.iter().map(|len| {
        end += len;
        let (within, others) = left.split_at(left.partition_point(|&row| (row as usize) < end));
        left = others;
        within.len()
    });
    within.collect()
}
