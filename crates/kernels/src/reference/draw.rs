//! Draws, by the weights as they are defined.

use super::F64Tensor;
use crate::draw::{Draw, Drawn, TokenLogprob, all_finite, assert_logits, assert_row_exists, order};
use crate::rng;

pub(super) fn draw(out: &mut [Drawn], logits: &F64Tensor, vocab_size: usize, draws: &[Draw<'_>]) {
    assert_logits("draw", logits.0.len(), draws.len(), vocab_size);
    assert_eq!(out.len(), draws.len(), "draw: results");
    for ((out, draw), logits) in out.iter_mut().zip(draws).zip(logits.0.chunks_exact(vocab_size)) {
        draw.assert_fits(vocab_size);
        *out = draw_from(logits, draw);
    }
}

fn draw_from(logits: &[f64], draw: &Draw<'_>) -> Drawn {
    let logits: Vec<f32> = logits.iter().map(|&logit| logit as f32).collect();
    if !all_finite(&logits) {
        return Drawn::NotFinite;
    }
    let weights = draw.weights(&logits);
    let total = weights.iter().sum();
    if total == 0 {
        return Drawn::Nothing;
    }
    let [seed, stream, index] = draw.random;
    let mut left = rng::below(seed, stream, index, total);
    for (id, weight) in weights.into_iter().enumerate() {
        if left < weight {
            return Drawn::Token(id as u32);
        }
        left -= weight;
    }
    unreachable!("a number below the sum of the weights")
}

pub(super) fn token_logprobs(
    out: &mut [Option<TokenLogprob>],
    logits: &F64Tensor,
    vocab_size: usize,
    asked: &[(usize, u32)],
) {
    assert_eq!(out.len(), asked.len(), "token_logprobs: results");
    for (out, &(row, token)) in out.iter_mut().zip(asked) {
        assert_row_exists("token_logprobs", logits.0.len(), row, vocab_size);
        let logits = &logits.0[row * vocab_size..][..vocab_size];
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        let logit = logits[token as usize];
        let said = TokenLogprob { logprob: logit - highest - sum.ln(), is_best: logit >= highest };
        *out = logits.iter().all(|logit| logit.is_finite()).then_some(said);
    }
}

pub(super) fn likeliest(out: &mut [u32], logits: &F64Tensor, vocab_size: usize, row: usize) {
    assert_row_exists("likeliest", logits.0.len(), row, vocab_size);
    let logits = &logits.0[row * vocab_size..][..vocab_size];
    let mut sorted: Vec<(f32, u32)> = logits.iter().map(|&logit| logit as f32).zip(0..).collect();
    sorted.sort_by(|&a, &b| order(a, b));
    out.iter_mut().zip(sorted).for_each(|(out, (_, id))| *out = id);
}
