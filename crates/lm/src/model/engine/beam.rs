//! Beam search: the most likely continuation that a few parallel ones find (Wu et al. 2016).
//!
//! Every slot of the engine keeps the prompt; what follows it is short and is read again in every step, so
//! that no cache is copied when one beam takes the place of another.

use super::{Engine, NotFinite};
use kernels::{Backend, CacheSpan};

/// How a beam search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beams {
    /// Continuations at once; the engine has as many slots.
    pub width: usize,
    /// Exponent of the length penalty `((5 + length) / 6)^α`, by which log-probabilities are divided.
    pub alpha: f64,
    /// Tokens of a continuation at most.
    pub max_tokens: usize,
}

#[derive(Clone)]
struct Beam {
    tokens: Vec<u32>,
    logprob: f64,
}

impl<B: Backend> Engine<B> {
    /// The best continuation of `prompt` by log-probability and length penalty. `ends` is told the tokens of
    /// a continuation and says whether it is over; what is never over ends after `max_tokens`.
    ///
    /// # Errors
    /// Logits are not finite.
    pub fn beam_search(
        &mut self,
        b: &mut B,
        prompt: &[u32],
        beams: &Beams,
        ends: impl Fn(&[u32]) -> bool,
    ) -> Result<Vec<u32>, NotFinite> {
        assert!((1..=self.slots.len()).contains(&beams.width), "every beam needs a slot");
        let room = (self.capacity + 1).saturating_sub(prompt.len());
        let penalised = |beam: &Beam| beam.logprob / ((5 + beam.tokens.len()) as f64 / 6.0).powf(beams.alpha);
        let better = |a: &Beam, b: &Beam| penalised(b).total_cmp(&penalised(a));
        let mut alive = vec![Beam { tokens: Vec::new(), logprob: 0.0 }];
        let mut done: Vec<Beam> = Vec::new();
        for step in 0..beams.max_tokens.min(room) {
            match step {
                0 => self.read(b, prompt, beams.width),
                _ => self.read_next(b, prompt.len(), &alive),
            }
            let mut logits = vec![0.0; b.len(&self.cache.logits)];
            b.download(&mut logits, &self.cache.logits);
            NotFinite::check(&logits, 0, prompt.len() + step)?;
            let mut next: Vec<Beam> = Vec::new();
            for (beam, logits) in alive.iter().zip(logits.chunks_exact(self.config.vocab_size)) {
                let logprobs = log_softmax(&logits[..self.n_tokens]);
                for (token, logprob) in likeliest(&logprobs, 2 * beams.width) {
                    let tokens = [&beam.tokens[..], &[token]].concat();
                    next.push(Beam { tokens, logprob: beam.logprob + logprob });
                }
            }
            next.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
            alive.clear();
            for (rank, beam) in next.into_iter().take(2 * beams.width).enumerate() {
                if ends(&beam.tokens) {
                    // An end that is no better than the beams that go on is none.
                    done.extend((rank < beams.width).then_some(beam));
                } else if alive.len() < beams.width {
                    alive.push(beam);
                }
            }
            done.sort_by(better);
            done.truncate(beams.width);
            if done.len() == beams.width || alive.is_empty() {
                break;
            }
        }
        if done.is_empty() {
            done = alive;
            done.sort_by(better);
        }
        Ok(done.into_iter().next().map(|beam| beam.tokens).unwrap_or_default())
    }

    /// The pass that has the logits after each beam.
    fn read_next(&mut self, b: &mut B, prompt_len: usize, alive: &[Beam]) {
        let (mut tokens, mut spans, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, beam) in alive.iter().enumerate() {
            tokens.extend_from_slice(&beam.tokens);
            spans.push(CacheSpan { slot, start: prompt_len, len: beam.tokens.len() });
            wanted.push(tokens.len() as u32 - 1);
        }
        self.pass_of(b, &tokens, &spans, &wanted);
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit - highest) - sum.ln()).collect()
}

/// The `n` highest, with their ids; ties go to the lower id.
fn likeliest(logprobs: &[f64], n: usize) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = (0..).zip(logprobs.iter().copied()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(n);
    all
}

#[cfg(test)]
mod tests {
    use super::super::{Request, Sampling};
    use super::*;
    use crate::model::{Config, init};
    use kernels::Reference;
    use std::ops::ControlFlow;

    #[test]
    fn one_beam_is_greedy_and_more_find_what_is_likelier() {
        let config = Config { d_ff: 16, ..Config::gpt2(11, 32, 2, 2, 8) };
        let b = &mut Reference;
        let mut weights = init(b, &config, 1);
        // Far from uniform, so that greedy is not always right.
        weights.leaves_mut().into_iter().for_each(|leaf| leaf.0.iter_mut().for_each(|x| *x *= 12.0));
        let (mut likelier, mut less) = (0, 0);
        for first in 1..10 {
            let mut engine = Engine::new(b, &config, &weights, 4);
            let prompt = [first, 3];
            let request = Request {
                prompt: prompt.to_vec(),
                max_tokens: 6,
                sampling: Sampling { temperature: 0.0, ..Sampling::default() },
                ..Request::default()
            };
            let greedy =
                engine.generate(b, &[request], |_, _| ControlFlow::Continue(())).unwrap().remove(0).tokens;
            let of = |width| Beams { width, alpha: 0.6, max_tokens: 6 };
            assert_eq!(engine.beam_search(b, &prompt, &of(1), |_| false).unwrap(), greedy);
            for end in 0..11 {
                let len = greedy.iter().position(|&token| token == end).map_or(6, |at| at + 1);
                let ended =
                    engine.beam_search(b, &prompt, &of(1), |tokens| tokens.last() == Some(&end)).unwrap();
                assert_eq!(
                    ended,
                    greedy[..len],
                    "it ends where {end} is the likeliest token, not where it is likely"
                );
            }
            let found = engine.beam_search(b, &prompt, &of(4), |_| false).unwrap();
            let told = engine.score_continuations(b, &prompt, &[&greedy, &found]).unwrap();
            let sum = |i: usize| told[i].iter().map(|told| told.logprob).sum::<f64>();
            likelier += usize::from(sum(1) > sum(0) + 1e-9);
            less += usize::from(sum(1) < sum(0) - 1e-9);
        }
        assert!(likelier > less, "four beams are likelier {likelier} times, and {less} times less likely");
    }
}
