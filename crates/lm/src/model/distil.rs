//! The head beside a teacher's, or beside what was kept of one: how far its distributions are from theirs, forward and
//! backward.

use super::gpt::{Activations, Gradients};
use super::{Config, Weights};
use kernels::{Backend, Distil, DistilShape, StoredShape};

/// What is learned of a batch.
pub enum Teaching<'a, B: Backend> {
    /// A teacher's hidden state of the same rows, `[rows, d_model]`, and its head.
    Model {
        /// What its head reads.
        hidden: &'a B::Tensor,
        /// `[vocab_size, d_model]`.
        head: &'a B::Tensor,
        /// Values of a row.
        d_model: usize,
    },
    /// Of each row `k` tokens and their log-probabilities.
    Stored {
        /// `[rows, k]`.
        tokens: &'a B::Ids,
        /// `[rows, k]`.
        logprobs: &'a B::Scalars,
        /// How many.
        k: usize,
    },
}

/// Appends the divergence of each row that has a [target](Activations::ask) after a [`forward`](super::forward) pass.
pub fn divergences<B: Distil>(
    b: &mut B,
    w: &Weights<B::Tensor>,
    a: &Activations<B>,
    (teaching, beta): (&Teaching<'_, B>, f32),
    out: &mut B::Scalars,
) {
    let student = [&a.hidden, w.head()];
    match *teaching {
        Teaching::Model { hidden, head, d_model } => {
            let shape = DistilShape { student: a.asked, teacher_d_model: d_model, beta };
            b.distil_forward(out, student, [hidden, head], &a.targets, &shape);
        }
        Teaching::Stored { tokens, logprobs, k } => {
            let shape = StoredShape { student: a.asked, k, beta };
            b.stored_forward(out, student, tokens, logprobs, &a.targets, &shape);
        }
    }
}

/// As [`head_backward`](super::head_backward), of a loss that knows divergences: `derivatives` are those by each row's, which
/// are appended to `out`.
#[allow(clippy::too_many_arguments)]
pub fn divergences_backward<B: Distil>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    g: &mut Gradients<B::Tensor>,
    a: &Activations<B>,
    (teaching, beta): (&Teaching<'_, B>, f32),
    derivatives: &B::Scalars,
    out: &mut B::Scalars,
    groups: &[usize],
) {
    g.resize(b, c, a.asked.rows);
    let (dhidden, dhead) = g.at_the_head(b, c);
    let (student, targets) = ([&a.hidden, w.head()], &a.targets);
    match *teaching {
        Teaching::Model { hidden, head, d_model } => {
            let (teacher, shape) =
                ([hidden, head], DistilShape { student: a.asked, teacher_d_model: d_model, beta });
            b.distil_backward(out, dhidden, dhead, derivatives, student, teacher, targets, &shape, groups);
        }
        Teaching::Stored { tokens, logprobs, k } => {
            let shape = StoredShape { student: a.asked, k, beta };
            b.stored_backward(
                out,
                dhidden,
                dhead,
                derivatives,
                student,
                tokens,
                logprobs,
                targets,
                &shape,
                groups,
            );
        }
    }
}
