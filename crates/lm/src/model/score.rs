//! The head that scores: a linear layer over single rows of the hidden state, forward and backward.
//!
//! A reward model reads the last row of an answer, a value model every row, a classifier the row of its
//! extract token.

use super::gpt::{Activations, Gradients};
use super::{Config, Weights};
use kernels::{Backend, Dropout, LinearShape};

/// What scoring leaves for its backward pass.
pub(super) struct ScoreActivations<B: Backend> {
    rows: B::Ids,
    /// The rows that are scored, `[rows, d_model]`.
    gathered: B::Tensor,
    scores: B::Tensor,
}

impl<B: Backend> ScoreActivations<B> {
    pub(super) fn new(b: &mut B) -> Self {
        ScoreActivations { rows: b.ids(), gathered: b.activation(0), scores: b.zeros(0) }
    }
}

/// Gradients between the head's operations.
pub(super) struct ScoreGradients<T> {
    scores: T,
    gathered: T,
    /// The hidden state's gradient where rows can be added to.
    hidden: T,
}

impl<T> ScoreGradients<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        ScoreGradients { scores: b.zeros(0), gathered: b.activation(0), hidden: b.zeros(0) }
    }
}

/// The scores `[rows, n_label]` of the rows `rows` after a [`forward`](super::forward) pass; `dropout` is
/// that of what the head reads.
pub fn scores<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    a: &mut Activations<B>,
    rows: &[u32],
    dropout: Option<&Dropout>,
    out: &mut Vec<f32>,
) {
    let shape = shape(c, rows.len());
    let head = w.score.as_ref().expect("a model that scores");
    let ScoreActivations { rows: ids, gathered, scores } = &mut a.score;
    b.upload_ids(ids, rows);
    b.resize(gathered, rows.len() * c.d_model);
    b.resize(scores, rows.len() * shape.d_out);
    b.gather_forward(gathered, &a.hidden, ids, c.d_model);
    if let Some(dropout) = dropout {
        b.dropout(gathered, c.d_model, dropout);
    }
    b.linear_forward(scores, gathered, &head.weight, head.bias.as_ref(), shape);
    out.resize(rows.len() * shape.d_out, 0.0);
    b.download(out, scores);
}

/// Whose gradient of the hidden state there is when that of the scores comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nobody's.
    Nothing,
    /// The language-model head's, of the same pass: [`head_backward`](super::head_backward) wrote it.
    LanguageModel,
}

/// The head's backward pass after [`scores`], of the same rows: the head's gradient from the loss's
/// derivatives by each score, and `g.hidden`, to which the scores add theirs. [`backward`](super::backward)
/// comes next. `groups` says how many of the rows are summed first.
#[allow(clippy::too_many_arguments)]
pub fn scores_backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    g: &mut Gradients<B::Tensor>,
    a: &Activations<B>,
    dropout: Option<&Dropout>,
    dscores: &[f32],
    before: Before,
    groups: &[usize],
) {
    let rows = b.len(&a.score.gathered) / c.d_model;
    let shape = shape(c, rows);
    if before == Before::Nothing {
        g.resize(b, c, b.len(&a.hidden) / c.d_model);
    }
    let head = w.score.as_ref().expect("a model that scores");
    let dhead = g.weights.score.as_mut().expect("a model that scores");
    let ScoreGradients { scores, gathered, hidden } = &mut g.score;
    b.resize(scores, dscores.len());
    b.resize(gathered, rows * c.d_model);
    b.resize(hidden, b.len(&a.hidden));
    b.upload(scores, dscores);
    b.linear_backward_weight(
        &mut dhead.weight,
        dhead.bias.as_mut(),
        scores,
        &a.score.gathered,
        shape,
        groups,
    );
    b.linear_backward_input(gathered, scores, &head.weight, shape);
    if let Some(dropout) = dropout {
        b.dropout(gathered, c.d_model, dropout);
    }
    match before {
        Before::Nothing => b.fill(hidden, 0.0),
        Before::LanguageModel => b.copy(hidden, &g.hidden),
    }
    b.gather_backward(hidden, gathered, &a.score.rows, c.d_model);
    b.copy(&mut g.hidden, hidden);
}

fn shape(c: &Config, rows: usize) -> LinearShape {
    LinearShape { rows, d_in: c.d_model, d_out: c.n_label.expect("a model that scores") }
}
