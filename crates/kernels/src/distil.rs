//! Knowledge distillation: what a backend can that learns from another model's distributions.
//!
//! Apart from [`Backend`]: on GPUs there are no kernels for it yet.

use crate::either::Either;
use crate::{Backend, DistilShape, StoredShape};

/// A backend that compares two language-model heads.
///
/// Of each row with a target, how far the student's distribution `q`, that of
/// [the head](Backend::head_forward), is from a teacher's, `p = softmax(teacher_hidden · teacher_weightᵀ / temperature)`:
/// the generalised Jensen–Shannon divergence `β KL(p ‖ m) + (1-β) KL(q ‖ m)` with `m = βp + (1-β)q`, in nats (Agarwal et al.
/// 2024, "GKD", eq. 1). By definition it is `KL(p ‖ q)` (Hinton et al. 2015) for `β = 0`, and `KL(q ‖ p)` for `β = 1`. What
/// the target is does not matter; rows with [`NO_TARGET`](crate::NO_TARGET) have a divergence of 0. Neither kind of logits is
/// ever there for all rows at once.
///
/// Of a stored teacher `k` tokens of each row are known with their log-probabilities, `tokens` and `logprobs` (`[rows, k]`,
/// no token twice in a row). All others together are one further outcome of both distributions, the *tail*, whose
/// probability is what is left to 1 of those of the `k`: without it nothing would be said of them.
///
/// `student` and `teacher` are a hidden state (`[rows, d_model]` of each) and a head (`[vocab_size, d_model]` of each).
#[allow(clippy::too_many_arguments)]
pub trait Distil: Backend {
    /// Appends the divergence of each row to `divergences`.
    fn distil_forward(
        &mut self,
        divergences: &mut Self::Scalars,
        student: [&Self::Tensor; 2],
        teacher: [&Self::Tensor; 2],
        targets: &Self::Ids,
        shape: &DistilShape,
    );

    /// Gradients for given derivatives `ddivergences` of the loss by each divergence; the teacher has none. With `g = -p/q` for
    /// `β = 0` and else `g = (1-β) log(q/m)`: `dlogit[j] = ddivergence · q[j] · (g[j] - Σ q g) / temperature`, and from it
    /// `dhidden` and `dweight` as in [`head_backward`](Backend::head_backward). What is appended to `divergences` falls out of
    /// it. Without `dweight` the head is not learned.
    fn distil_backward(
        &mut self,
        divergences: &mut Self::Scalars,
        dhidden: &mut Self::Tensor,
        dweight: Option<&mut Self::Tensor>,
        ddivergences: &Self::Scalars,
        student: [&Self::Tensor; 2],
        teacher: [&Self::Tensor; 2],
        targets: &Self::Ids,
        shape: &DistilShape,
        groups: &[usize],
    );

    /// As [`distil_forward`](Self::distil_forward), from a stored teacher.
    fn stored_forward(
        &mut self,
        divergences: &mut Self::Scalars,
        student: [&Self::Tensor; 2],
        tokens: &Self::Ids,
        logprobs: &Self::Scalars,
        targets: &Self::Ids,
        shape: &StoredShape,
    );

    /// As [`distil_backward`](Self::distil_backward), from a stored teacher: what `g` is of the tail, it is of each of its tokens.
    fn stored_backward(
        &mut self,
        divergences: &mut Self::Scalars,
        dhidden: &mut Self::Tensor,
        dweight: Option<&mut Self::Tensor>,
        ddivergences: &Self::Scalars,
        student: [&Self::Tensor; 2],
        tokens: &Self::Ids,
        logprobs: &Self::Scalars,
        targets: &Self::Ids,
        shape: &StoredShape,
        groups: &[usize],
    );
}

/// The share of a divergence that one outcome has, of probabilities `p` and `q` by their logarithms, and `q · g` of it.
pub(crate) fn of_outcome(log_p: f64, log_q: f64, beta: f64) -> (f64, f64) {
    let (p, q, ratio) = (log_p.exp(), log_q.exp(), log_p - log_q);
    if beta == 0.0 {
        (if p == 0.0 { 0.0 } else { p * ratio }, -p)
    } else if beta == 1.0 {
        let share = if q == 0.0 { 0.0 } else { -q * ratio };
        (share, share)
    } else {
        // Beyond, the smaller one is 0 in any precision.
        let ratio = ratio.clamp(-80.0, 80.0);
        let q_to_m = -((1.0 - beta) + beta * ratio.exp()).ln();
        (beta * p * (q_to_m + ratio) + (1.0 - beta) * q * q_to_m, (1.0 - beta) * q * q_to_m)
    }
}

/// The logarithm of what the log-probabilities of a stored row leave to 1. They are kept in few digits and may add up to more:
/// there is no less than the last of these.
pub(crate) fn log_tail(logprobs: &[f64]) -> f64 {
    const LEAST: f64 = 1.0 / (1 << 24) as f64;
    (1.0 - logprobs.iter().map(|logprob| logprob.exp()).sum::<f64>()).max(LEAST).ln()
}

impl<A: Distil, B: Distil> Distil for Either<A, B> {
    fn distil_forward(
        &mut self,
        divergences: &mut Self::Scalars,
        student: [&Self::Tensor; 2],
        teacher: [&Self::Tensor; 2],
        targets: &Self::Ids,
        shape: &DistilShape,
    ) {
        match self {
            Either::First(b) => {
                let [student, teacher] = [student, teacher].map(|head| head.map(Either::first));
                b.distil_forward(divergences.first_mut(), student, teacher, targets.first(), shape);
            }
            Either::Second(b) => {
                let [student, teacher] = [student, teacher].map(|head| head.map(Either::second));
                b.distil_forward(divergences.second_mut(), student, teacher, targets.second(), shape);
            }
        }
    }

    fn distil_backward(
        &mut self,
        divergences: &mut Self::Scalars,
        dhidden: &mut Self::Tensor,
        dweight: Option<&mut Self::Tensor>,
        ddivergences: &Self::Scalars,
        student: [&Self::Tensor; 2],
        teacher: [&Self::Tensor; 2],
        targets: &Self::Ids,
        shape: &DistilShape,
        groups: &[usize],
    ) {
        match self {
            Either::First(b) => {
                let [student, teacher] = [student, teacher].map(|head| head.map(Either::first));
                let (dhidden, dweight) = (dhidden.first_mut(), dweight.map(Either::first_mut));
                let (d, targets) = (ddivergences.first(), targets.first());
                let divergences = divergences.first_mut();
                b.distil_backward(divergences, dhidden, dweight, d, student, teacher, targets, shape, groups);
            }
            Either::Second(b) => {
                let [student, teacher] = [student, teacher].map(|head| head.map(Either::second));
                let (dhidden, dweight) = (dhidden.second_mut(), dweight.map(Either::second_mut));
                let (d, targets) = (ddivergences.second(), targets.second());
                let divergences = divergences.second_mut();
                b.distil_backward(divergences, dhidden, dweight, d, student, teacher, targets, shape, groups);
            }
        }
    }

    fn stored_forward(
        &mut self,
        divergences: &mut Self::Scalars,
        student: [&Self::Tensor; 2],
        tokens: &Self::Ids,
        logprobs: &Self::Scalars,
        targets: &Self::Ids,
        shape: &StoredShape,
    ) {
        match self {
            Either::First(b) => {
                let (student, teacher) = (student.map(Either::first), (tokens.first(), logprobs.first()));
                let divergences = divergences.first_mut();
                b.stored_forward(divergences, student, teacher.0, teacher.1, targets.first(), shape);
            }
            Either::Second(b) => {
                let (student, teacher) = (student.map(Either::second), (tokens.second(), logprobs.second()));
                let divergences = divergences.second_mut();
                b.stored_forward(divergences, student, teacher.0, teacher.1, targets.second(), shape);
            }
        }
    }

    fn stored_backward(
        &mut self,
        divergences: &mut Self::Scalars,
        dhidden: &mut Self::Tensor,
        dweight: Option<&mut Self::Tensor>,
        ddivergences: &Self::Scalars,
        student: [&Self::Tensor; 2],
        tokens: &Self::Ids,
        logprobs: &Self::Scalars,
        targets: &Self::Ids,
        shape: &StoredShape,
        groups: &[usize],
    ) {
        match self {
            Either::First(b) => {
                let (dhidden, dweight) = (dhidden.first_mut(), dweight.map(Either::first_mut));
                let (out, d, t) = (divergences.first_mut(), ddivergences.first(), targets.first());
                let (student, tokens, logprobs) =
                    (student.map(Either::first), tokens.first(), logprobs.first());
                b.stored_backward(out, dhidden, dweight, d, student, tokens, logprobs, t, shape, groups);
            }
            Either::Second(b) => {
                let (dhidden, dweight) = (dhidden.second_mut(), dweight.map(Either::second_mut));
                let (out, d, t) = (divergences.second_mut(), ddivergences.second(), targets.second());
                let (student, tokens, logprobs) =
                    (student.map(Either::second), tokens.second(), logprobs.second());
                b.stored_backward(out, dhidden, dweight, d, student, tokens, logprobs, t, shape, groups);
            }
        }
    }
}
