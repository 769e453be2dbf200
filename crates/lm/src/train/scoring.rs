//! Training a head that scores: alone, beside language modelling, or on a trunk that stays as it is.

use super::{Lane, Trainer};
use crate::model::{self, Before, HeadDerivatives, PairShape, Sequences, Spec, Targets, Weights};
use kernels::{Backend, Dropout};

/// What is learned of a model.
pub(super) enum Learns<B: Backend> {
    /// All of it.
    Everything,
    /// The head that scores, and the embeddings of these tokens, whose gradients are `kept` for a moment.
    HeadAnd { tokens: B::Ids, kept: B::Tensor },
    /// The adapter, of whose `B`s and magnitudes some are learned in part only, and a head that scores.
    Adapter { masks: Vec<[Option<Mask<B>>; 2]>, kept: B::Tensor },
}

/// The stretches of a `B` that are learned, and how long each is.
pub(super) struct Mask<B: Backend> {
    stretches: B::Ids,
    count: usize,
    width: usize,
}

impl<B: Backend> Learns<B> {
    /// What is learned of a model that `specs` describe.
    pub(super) fn of(b: &mut B, specs: &Weights<Spec>) -> Self {
        let Some(adapter) = &specs.adapter else { return Learns::Everything };
        let mut mask = |(stretches, width): (Vec<u32>, usize)| {
            let mut ids = b.ids();
            b.upload_ids(&mut ids, &stretches);
            Mask { stretches: ids, count: stretches.len(), width }
        };
        let parts = |shape: &PairShape| [shape.mask(), shape.row_mask().map(|rows| (rows, 1))];
        let masks =
            adapter.pairs().map(|(.., pair)| parts(&pair.shape).map(|part| part.map(&mut mask))).collect();
        Learns::Adapter { masks, kept: b.zeros(0) }
    }

    /// Whether no value of the leaf is frozen.
    pub(super) fn all_of(&self, spec: &Spec) -> bool {
        match self {
            Learns::Everything => true,
            Learns::HeadAnd { .. } => spec.name.starts_with("score."),
            Learns::Adapter { .. } => spec.name.starts_with("score.") || spec.is_adapter(),
        }
    }

    /// Whether any value of the leaf is learned.
    pub(super) fn any_of(&self, spec: &Spec) -> bool {
        self.all_of(spec) || (matches!(self, Learns::HeadAnd { .. }) && spec.name == "wte")
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
        let a = &mut passes.activations;
        let scored = rows_within(rows, groups);
        model::scores_backward(b, config, weights, gradients, a, dropout, &derivatives, before, &scored);
        model::backward(b, config, weights, gradients, a, groups);
        told
    }

    /// From now on nothing is learned but the head that scores and the embeddings of `tokens`.
    pub fn freeze_trunk(&mut self, b: &mut B, tokens: &[u32]) {
        assert!(self.weights.adapter.is_none(), "beside an adapter the trunk is frozen anyway");
        let (mut ids, kept) = (b.ids(), b.zeros(tokens.len() * self.config.d_model));
        b.upload_ids(&mut ids, tokens);
        self.learns = Learns::HeadAnd { tokens: ids, kept };
        self.gradients.blocks_learn = false;
    }

    /// Of a leaf that is learned in part, sets the gradients of what is frozen to zero: without decay AdamW
    /// leaves it as it is to the bit. Leaves that are frozen as a whole are no parameters of an update.
    pub(super) fn forget_frozen(&mut self, b: &mut B) {
        let Self { config, learns, gradients, .. } = self;
        match learns {
            Learns::Everything => {}
            Learns::HeadAnd { tokens, kept } => {
                keep_rows(b, &mut gradients.weights.wte, kept, tokens, config.d_model);
            }
            Learns::Adapter { masks, kept } => {
                let pairs = gradients.weights.adapter.iter_mut().flat_map(|adapter| &mut adapter.blocks);
                for (pair, masks) in pairs.flatten().flatten().zip(masks) {
                    let leaves = [Some(&mut pair.b), pair.magnitude.as_mut()];
                    for (gradient, mask) in leaves.into_iter().zip(masks) {
                        let (Some(gradient), Some(Mask { stretches, count, width })) = (gradient, mask)
                        else {
                            continue;
                        };
                        b.resize(kept, *count * *width);
                        keep_rows(b, gradient, kept, stretches, *width);
                    }
                }
            }
        }
    }
}

/// Sets to zero all rows of a gradient but some.
fn keep_rows<B: Backend>(
    b: &mut B,
    gradient: &mut B::Tensor,
    kept: &mut B::Tensor,
    rows: &B::Ids,
    width: usize,
) {
    b.gather_forward(kept, gradient, rows, width);
    b.fill(gradient, 0.0);
    b.gather_backward(gradient, kept, rows, width);
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
