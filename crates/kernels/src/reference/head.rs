//! The language-model head, one row at a time.

use super::{F64Tensor, add_scaled, assert_len, dot, row, row_mut, rows_of_groups};
use crate::shapes::size_of_shape;
use crate::{HeadShape, NO_TARGET};

pub(super) fn forward(
    logprobs: &mut [f64],
    mut entropies: Option<&mut [f64]>,
    hidden: &F64Tensor,
    weight: &F64Tensor,
    targets: &[u32],
    shape: &HeadShape,
) {
    assert_shapes("head_forward", logprobs, hidden, weight, targets, shape);
    logprobs.fill(0.0);
    if let Some(entropies) = entropies.as_deref_mut() {
        assert_eq!(entropies.len(), shape.rows, "values of entropies");
        entropies.fill(0.0);
    }
    for r in (0..shape.rows).filter(|&r| targets[r] != NO_TARGET) {
        let (log_p, _) = log_softmax(row(&hidden.0, r, shape.d_model), weight, shape);
        logprobs[r] = log_p[targets[r] as usize];
        if let Some(entropies) = entropies.as_deref_mut() {
            entropies[r] = entropy(&log_p);
        }
    }
}

/// `derivatives` are those of the loss by each log-probability, and by each entropy if the loss has them.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    logprobs: &mut [f64],
    dhidden: &mut F64Tensor,
    mut dweight: Option<&mut F64Tensor>,
    (dlogprobs, dentropies): (&[f64], Option<&[f64]>),
    hidden: &F64Tensor,
    weight: &F64Tensor,
    targets: &[u32],
    shape: &HeadShape,
    groups: &[usize],
) {
    assert_shapes("head_backward", logprobs, hidden, weight, targets, shape);
    assert_len(dhidden, hidden.0.len(), "dhidden");
    if let Some(dweight) = &dweight {
        assert_len(dweight, weight.0.len(), "dweight");
    }
    assert_eq!(dlogprobs.len(), shape.rows, "values of dlogprobs");
    if let Some(dentropies) = dentropies {
        assert_eq!(dentropies.len(), shape.rows, "values of dentropies");
    }
    logprobs.fill(0.0);
    dhidden.0.fill(0.0);
    for group in rows_of_groups("head_backward", groups, shape.rows) {
        let mut dweight_sum = vec![0.0; weight.0.len()];
        for r in group.filter(|&r| targets[r] != NO_TARGET) {
            let hidden = row(&hidden.0, r, shape.d_model);
            let (log_p, z) = log_softmax(hidden, weight, shape);
            let (target, entropy) = (targets[r] as usize, entropy(&log_p));
            logprobs[r] = log_p[target];
            let pull = 1.0 + 2.0 * f64::from(shape.z_loss) * z;
            let dentropy = dentropies.map_or(0.0, |dentropies| dentropies[r]);
            for (j, log_p) in log_p.iter().enumerate() {
                let is_target = f64::from(u8::from(j == target));
                let by_logprob = dlogprobs[r] * (is_target - pull * log_p.exp());
                let by_entropy = dentropy * log_p.exp() * (log_p + entropy);
                let dlogit = (by_logprob - by_entropy) / f64::from(shape.temperature);
                add_scaled(
                    row_mut(&mut dhidden.0, r, shape.d_model),
                    dlogit,
                    row(&weight.0, j, shape.d_model),
                );
                add_scaled(row_mut(&mut dweight_sum, j, shape.d_model), dlogit, hidden);
            }
        }
        if let Some(dweight) = &mut dweight {
            add_scaled(&mut dweight.0, 1.0, &dweight_sum);
        }
    }
}

/// `-Σ p log p`.
fn entropy(log_p: &[f64]) -> f64 {
    -log_p.iter().map(|log_p| log_p.exp() * log_p).sum::<f64>()
}

/// `log softmax(hidden · weightᵀ / temperature)` of one row, and the logarithm of its denominator.
pub(super) fn log_softmax(hidden: &[f64], weight: &F64Tensor, shape: &HeadShape) -> (Vec<f64>, f64) {
    let logit = |w| dot(hidden, w) / f64::from(shape.temperature);
    let logits: Vec<f64> = weight.0.chunks_exact(shape.d_model).map(logit).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln();
    (logits.iter().map(|logit| logit - lse).collect(), lse)
}

fn assert_shapes(
    operation: &str,
    logprobs: &[f64],
    hidden: &F64Tensor,
    weight: &F64Tensor,
    targets: &[u32],
    shape: &HeadShape,
) {
    assert_eq!(logprobs.len(), shape.rows, "values of logprobs");
    assert_eq!(targets.len(), shape.rows, "targets");
    assert!(shape.vocab_size > 0 && shape.d_model > 0, "{operation}: an empty head");
    assert_len(hidden, size_of_shape(operation, &[shape.rows, shape.d_model]), "hidden");
    assert_len(weight, size_of_shape(operation, &[shape.vocab_size, shape.d_model]), "weight");
    for &target in targets.iter().filter(|&&target| target != NO_TARGET) {
        assert!((target as usize) < shape.vocab_size, "target {target} of {} tokens", shape.vocab_size);
    }
}
