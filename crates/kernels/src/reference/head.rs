//! The language-model head, one row at a time.

use super::{F64Tensor, add_scaled, assert_len, dot, groups, row, row_mut};
use crate::{HeadShape, NO_TARGET};

pub(super) fn forward(
    logprobs: &mut [f64],
    hidden: &F64Tensor,
    weight: &F64Tensor,
    targets: &[u32],
    shape: &HeadShape,
) {
    assert_shapes(logprobs, hidden, weight, targets, shape);
    for (r, (logprob, &target)) in logprobs.iter_mut().zip(targets).enumerate() {
        *logprob = match target {
            NO_TARGET => 0.0,
            target => log_softmax(row(&hidden.0, r, shape.d_model), weight, shape)[target as usize],
        };
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    logprobs: &mut [f64],
    dhidden: &mut F64Tensor,
    dweight: &mut F64Tensor,
    dlogprobs: &[f64],
    hidden: &F64Tensor,
    weight: &F64Tensor,
    targets: &[u32],
    shape: &HeadShape,
    group_rows: usize,
) {
    assert_shapes(logprobs, hidden, weight, targets, shape);
    assert_len(dhidden, hidden.0.len(), "dhidden");
    assert_len(dweight, weight.0.len(), "dweight");
    assert_eq!(dlogprobs.len(), shape.rows, "values of dlogprobs");
    logprobs.fill(0.0);
    dhidden.0.fill(0.0);
    for group in groups(shape.rows, group_rows) {
        let mut dweight_sum = vec![0.0; dweight.0.len()];
        for r in group.filter(|&r| targets[r] != NO_TARGET) {
            let hidden = row(&hidden.0, r, shape.d_model);
            let log_softmax = log_softmax(hidden, weight, shape);
            let target = targets[r] as usize;
            logprobs[r] = log_softmax[target];
            for (j, log_p) in log_softmax.iter().enumerate() {
                let is_target = f64::from(u8::from(j == target));
                let dlogit = dlogprobs[r] * (is_target - log_p.exp()) / f64::from(shape.temperature);
                add_scaled(
                    row_mut(&mut dhidden.0, r, shape.d_model),
                    dlogit,
                    row(&weight.0, j, shape.d_model),
                );
                add_scaled(row_mut(&mut dweight_sum, j, shape.d_model), dlogit, hidden);
            }
        }
        add_scaled(&mut dweight.0, 1.0, &dweight_sum);
    }
}

/// `log softmax(hidden · weightᵀ / temperature)` of one row.
fn log_softmax(hidden: &[f64], weight: &F64Tensor, shape: &HeadShape) -> Vec<f64> {
    let logit = |w| dot(hidden, w) / f64::from(shape.temperature);
    let logits: Vec<f64> = weight.0.chunks_exact(shape.d_model).map(logit).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - lse).collect()
}

fn assert_shapes(
    logprobs: &[f64],
    hidden: &F64Tensor,
    weight: &F64Tensor,
    targets: &[u32],
    shape: &HeadShape,
) {
    assert_eq!(logprobs.len(), shape.rows, "values of logprobs");
    assert_eq!(targets.len(), shape.rows, "targets");
    assert_len(hidden, shape.rows * shape.d_model, "hidden");
    assert_len(weight, shape.vocab_size * shape.d_model, "weight");
    for &target in targets.iter().filter(|&&target| target != NO_TARGET) {
        assert!((target as usize) < shape.vocab_size, "target {target} of {} tokens", shape.vocab_size);
    }
}
