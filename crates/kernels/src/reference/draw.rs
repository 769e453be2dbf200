//! Draws, by sorting the vocabulary.

use super::F64Tensor;
use crate::draw::{Draw, Drawn, TokenLogprob, assert_logits, assert_row_exists, order, score, weight};
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
    if logits.iter().any(|&logit| !(logit as f32).is_finite()) {
        return Drawn::NotFinite;
    }
    let added = |id| draw.added.iter().find(|added| added.0 as usize == id).map_or(0.0, |added| added.1);
    let allowed = (0..draw.n_tokens).filter(|&id| draw.allows(id));
    let scored = allowed.map(|id| (score(logits[id] as f32, added(id)), id as u32));
    let mut kept: Vec<(f32, u32)> = scored.collect();
    kept.sort_by(|&a, &b| order(a, b));
    let Some(&(highest, first)) = kept.first() else { return Drawn::Nothing };
    if draw.temperature <= 0.0 {
        return Drawn::Token(first);
    }
    if draw.top_k > 0 {
        kept.truncate(draw.top_k);
    }
    let mut weights: Vec<(u32, u64)> =
        kept.into_iter().map(|(z, id)| (id, weight((z - highest) / draw.divisor()))).collect();
    let total = |weights: &[(u32, u64)]| weights.iter().map(|(_, weight)| weight).sum::<u64>();
    if draw.top_p < 1.0 {
        let enough = draw.weight_to_keep(total(&weights));
        let kept = (1..=weights.len()).find(|&n| total(&weights[..n]) >= enough);
        weights.truncate(kept.expect("all of them have it"));
    }
    let [seed, stream, index] = draw.random;
    let mut left = rng::below(seed, stream, index, total(&weights));
    weights.sort();
    for (id, weight) in weights {
        if left < weight {
            return Drawn::Token(id);
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
