//! How far a student's distributions are from a teacher's, one row at a time.

use super::head::log_softmax;
use super::{F64Tensor, Reference, add_scaled, assert_len, row, row_mut, rows_of_groups};
use crate::distil::{log_tail, of_outcome};
use crate::shapes::{append, size_of_shape};
use crate::{Distil, DistilShape, HeadShape, NO_TARGET, StoredShape};

impl Distil for Reference {
    fn distil_forward(
        &mut self,
        divergences: &mut Vec<f64>,
        student: [&F64Tensor; 2],
        teacher: [&F64Tensor; 2],
        targets: &Vec<u32>,
        shape: &DistilShape,
    ) {
        assert_shapes("distil_forward", student, teacher, targets, shape);
        let divergences = append(divergences, shape.student.rows);
        divergences.fill(0.0);
        for r in (0..shape.student.rows).filter(|&r| targets[r] != NO_TARGET) {
            divergences[r] = of_row(r, student, teacher, shape).0;
        }
    }

    fn distil_backward(
        &mut self,
        divergences: &mut Vec<f64>,
        dhidden: &mut F64Tensor,
        dweight: Option<&mut F64Tensor>,
        ddivergences: &Vec<f64>,
        student: [&F64Tensor; 2],
        teacher: [&F64Tensor; 2],
        targets: &Vec<u32>,
        shape: &DistilShape,
        groups: &[usize],
    ) {
        assert_shapes("distil_backward", student, teacher, targets, shape);
        let of_row = |r| of_row(r, student, teacher, shape);
        let gradients = (dhidden, dweight, ddivergences.as_slice());
        backward("distil_backward", divergences, gradients, student, targets, &shape.student, groups, of_row);
    }

    fn stored_forward(
        &mut self,
        divergences: &mut Vec<f64>,
        student: [&F64Tensor; 2],
        tokens: &Vec<u32>,
        logprobs: &Vec<f64>,
        targets: &Vec<u32>,
        shape: &StoredShape,
    ) {
        assert_student("stored_forward", student, targets, &shape.student);
        shape.check("stored_forward", tokens, logprobs);
        let divergences = append(divergences, shape.student.rows);
        divergences.fill(0.0);
        for r in (0..shape.student.rows).filter(|&r| targets[r] != NO_TARGET) {
            divergences[r] = of_stored_row(r, student, (tokens, logprobs), shape).0;
        }
    }

    fn stored_backward(
        &mut self,
        divergences: &mut Vec<f64>,
        dhidden: &mut F64Tensor,
        dweight: Option<&mut F64Tensor>,
        ddivergences: &Vec<f64>,
        student: [&F64Tensor; 2],
        tokens: &Vec<u32>,
        logprobs: &Vec<f64>,
        targets: &Vec<u32>,
        shape: &StoredShape,
        groups: &[usize],
    ) {
        assert_student("stored_backward", student, targets, &shape.student);
        shape.check("stored_backward", tokens, logprobs);
        let of_row = |r| of_stored_row(r, student, (tokens, logprobs), shape);
        let gradients = (dhidden, dweight, ddivergences.as_slice());
        backward("stored_backward", divergences, gradients, student, targets, &shape.student, groups, of_row);
    }
}

/// `of_row` gives the divergence of a row and its derivatives by the logits that were divided by the temperature.
#[allow(clippy::too_many_arguments)]
fn backward(
    operation: &str,
    divergences: &mut Vec<f64>,
    (dhidden, mut dweight, ddivergences): (&mut F64Tensor, Option<&mut F64Tensor>, &[f64]),
    [hidden, weight]: [&F64Tensor; 2],
    targets: &[u32],
    shape: &HeadShape,
    groups: &[usize],
    of_row: impl Fn(usize) -> (f64, Vec<f64>),
) {
    let &HeadShape { rows, d_model, temperature, .. } = shape;
    assert_len(dhidden, hidden.0.len(), "dhidden");
    if let Some(dweight) = &dweight {
        assert_len(dweight, weight.0.len(), "dweight");
    }
    assert_eq!(ddivergences.len(), rows, "values of ddivergences");
    let divergences = append(divergences, rows);
    divergences.fill(0.0);
    dhidden.0.fill(0.0);
    for group in rows_of_groups(operation, groups, rows) {
        let mut dweight_sum = vec![0.0; weight.0.len()];
        for r in group.filter(|&r| targets[r] != NO_TARGET) {
            let (divergence, by_logits) = of_row(r);
            divergences[r] = divergence;
            for (j, by_logit) in by_logits.iter().enumerate() {
                let dlogit = ddivergences[r] * by_logit / f64::from(temperature);
                add_scaled(row_mut(&mut dhidden.0, r, d_model), dlogit, row(&weight.0, j, d_model));
                add_scaled(row_mut(&mut dweight_sum, j, d_model), dlogit, row(&hidden.0, r, d_model));
            }
        }
        if let Some(dweight) = &mut dweight {
            add_scaled(&mut dweight.0, 1.0, &dweight_sum);
        }
    }
}

/// The divergence of a row, and its derivatives by the logits that were divided by the temperature.
fn of_row(
    r: usize,
    [hidden, weight]: [&F64Tensor; 2],
    [teacher_hidden, teacher_weight]: [&F64Tensor; 2],
    shape: &DistilShape,
) -> (f64, Vec<f64>) {
    let teacher = HeadShape { d_model: shape.teacher_d_model, ..shape.student };
    let log_q = log_softmax(row(&hidden.0, r, shape.student.d_model), weight, &shape.student).0;
    let log_p = log_softmax(row(&teacher_hidden.0, r, teacher.d_model), teacher_weight, &teacher).0;
    let beta = f64::from(shape.beta);
    let outcomes: Vec<(f64, f64)> =
        log_p.iter().zip(&log_q).map(|(&log_p, &log_q)| of_outcome(log_p, log_q, beta)).collect();
    let mean: f64 = outcomes.iter().map(|(_, qg)| qg).sum();
    let by_logits = log_q.iter().zip(&outcomes).map(|(log_q, (_, qg))| qg - log_q.exp() * mean);
    (outcomes.iter().map(|(share, _)| share).sum(), by_logits.collect())
}

/// The same from a stored row.
fn of_stored_row(
    r: usize,
    [hidden, weight]: [&F64Tensor; 2],
    (tokens, logprobs): (&[u32], &[f64]),
    shape: &StoredShape,
) -> (f64, Vec<f64>) {
    let log_q = log_softmax(row(&hidden.0, r, shape.student.d_model), weight, &shape.student).0;
    let (tokens, logprobs) = (&tokens[r * shape.k..][..shape.k], row(logprobs, r, shape.k));
    let known: Vec<f64> = tokens.iter().map(|&token| log_q[token as usize]).collect();
    let is_tail = |token: &usize| !tokens.contains(&(*token as u32));
    let tail: f64 = (0..log_q.len()).filter(is_tail).map(|token| log_q[token].exp()).sum();
    let outcome = |(&log_p, &log_q): (&f64, &f64)| of_outcome(log_p, log_q, f64::from(shape.beta));
    let of_tail = outcome((&log_tail(logprobs), &tail.ln()));
    let outcomes: Vec<(f64, f64)> = logprobs.iter().zip(&known).map(outcome).collect();
    let divergence = outcomes.iter().map(|(share, _)| share).sum::<f64>() + of_tail.0;
    let mean = outcomes.iter().map(|(_, qg)| qg).sum::<f64>() + of_tail.1;
    let mut by_logits: Vec<f64> = log_q.iter().map(|log_q| log_q.exp() * (of_tail.1 / tail - mean)).collect();
    for ((&token, log_q), (_, qg)) in tokens.iter().zip(&known).zip(&outcomes) {
        by_logits[token as usize] = qg - log_q.exp() * mean;
    }
    (divergence, by_logits)
}

fn assert_shapes(
    operation: &str,
    student: [&F64Tensor; 2],
    [hidden, weight]: [&F64Tensor; 2],
    targets: &[u32],
    shape: &DistilShape,
) {
    shape.check(operation);
    assert_student(operation, student, targets, &shape.student);
    let &DistilShape { student: HeadShape { rows, vocab_size, .. }, teacher_d_model, .. } = shape;
    assert_len(hidden, size_of_shape(operation, &[rows, teacher_d_model]), "teacher_hidden");
    assert_len(weight, size_of_shape(operation, &[vocab_size, teacher_d_model]), "teacher_weight");
}

fn assert_student(operation: &str, [hidden, weight]: [&F64Tensor; 2], targets: &[u32], shape: &HeadShape) {
    let &HeadShape { rows, d_model, vocab_size, .. } = shape;
    assert_eq!(targets.len(), rows, "targets");
    assert_len(hidden, size_of_shape(operation, &[rows, d_model]), "hidden");
    assert_len(weight, size_of_shape(operation, &[vocab_size, d_model]), "weight");
    assert!(vocab_size > 0 && d_model > 0, "{operation}: an empty head");
}
